"""Indices of embeddings with exact search, and bridges from one embedding space to another."""
