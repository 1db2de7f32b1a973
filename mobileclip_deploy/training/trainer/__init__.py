"""Training of small models on reinforced datasets, set by a recipe."""
