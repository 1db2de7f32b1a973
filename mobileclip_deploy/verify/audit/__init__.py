"""Audit of models and embeddings that other code made."""
