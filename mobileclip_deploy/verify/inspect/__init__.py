"""Inspection of files, and a lint of packages for the Neural Engine and other chips."""
