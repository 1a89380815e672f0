"""Compaction (``mm/compaction.c`` (5.10)): used pages move to one end of a zone so that the other becomes free in one
piece."""
