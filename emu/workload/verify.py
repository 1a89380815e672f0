"""Bit-exact comparison with a recorded kernel case."""
