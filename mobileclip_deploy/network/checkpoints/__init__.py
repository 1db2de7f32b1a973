"""Checkpoints: safe reading of .pt and .safetensors, layouts and key maps; one file per layout."""
