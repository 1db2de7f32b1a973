"""Embeddings that an app computed, compared with its checkpoint's."""
