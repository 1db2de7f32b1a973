"""Reinforced datasets (arXiv 2311.17049): teachers' embeddings stored once with the data, for training without
teachers."""
