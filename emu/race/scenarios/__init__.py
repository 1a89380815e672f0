"""The scenarios of the catalogue: races that belong together share a file."""
