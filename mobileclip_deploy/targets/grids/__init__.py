"""Grids of stored weights: representable values, encoding, and decoding."""
