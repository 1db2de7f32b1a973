"""Learned rounding: weights put on a target's grids so that outputs stay, not each number to the nearest."""
