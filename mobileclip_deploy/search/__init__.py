"""Embeddings in an index, searched exactly, and a bridge from one embedding space to another."""
