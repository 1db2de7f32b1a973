"""Checkpoints: read .pt and .safetensors safely, tell the layout, map keys; one file a layout."""

from mobileclip_deploy.checkpoints.loading import builtin_checkpoint, load

__all__ = ["builtin_checkpoint", "load"]
