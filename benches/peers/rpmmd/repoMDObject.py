"""The little of python-pyrpmmd that umdl uses: the largest timestamp of a repomd.xml."""
from xml.etree.ElementTree import iterparse


class RepoMD:
    def __init__(self, _repoid, path):
        found = (element for _, element in iterparse(path) if element.tag.rpartition("}")[2] == "timestamp")
        self.timestamp = max((int(float(element.text)) for element in found), default=0)
