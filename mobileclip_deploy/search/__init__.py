"""Indices of embeddings with exact search, and their reduction to smaller embeddings."""
