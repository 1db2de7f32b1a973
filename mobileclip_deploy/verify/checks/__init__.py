"""Checks of a bundle, one file for each step of the report."""
