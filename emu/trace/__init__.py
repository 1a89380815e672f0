"""Traces of a machine, in the formats that the world's tools read."""
