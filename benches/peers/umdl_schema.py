"""usage: umdl_schema.py URI: makes MirrorManager2's tables, as its own package does."""
import sys

import sqlalchemy

from mirrormanager2.lib import model
from mirrormanager2.lib.database import BASE

assert model.Directory.__table__.metadata is BASE.metadata
BASE.metadata.create_all(sqlalchemy.create_engine(sys.argv[1]))
