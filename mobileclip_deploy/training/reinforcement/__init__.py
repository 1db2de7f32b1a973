"""Reinforced datasets (arXiv 2311.17049): what teachers know, stored once beside the data, for training without."""
