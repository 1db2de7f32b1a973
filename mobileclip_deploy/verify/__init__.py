"""Verification: every check of a bundle against the checkpoint it came from."""
