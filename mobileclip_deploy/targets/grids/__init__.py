"""Grids of stored weights: representable values, encoding, decoding, and training."""
