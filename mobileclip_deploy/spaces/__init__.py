"""Embedding spaces: axes, smaller embeddings, and the relevance of a match."""
