"""Learned rounding: puts weights on a target's grids so that outputs stay close, instead of each weight to the
nearest."""
