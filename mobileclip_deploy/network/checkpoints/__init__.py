"""Checkpoints: read .pt and .safetensors safely, tell the layout, map keys; one file per layout."""
