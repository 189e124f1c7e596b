"""Stands in for python-pyrpmmd, which is on no registry (Fedora packages it)."""
