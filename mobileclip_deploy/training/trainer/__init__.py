"""Training small models on reinforced datasets, as a recipe says."""
