"""Checkpoints: read .pt and .safetensors safely, tell the layout, map keys; one file per layout."""

from mobileclip_deploy.checkpoints.identity import Identity, identify
from mobileclip_deploy.checkpoints.loading import BUILTIN, builtin_checkpoint, load
from mobileclip_deploy.checkpoints.reading import TensorFile, open_tensors
from mobileclip_deploy.checkpoints.source import Source

__all__ = ["BUILTIN", "Identity", "Source", "TensorFile", "builtin_checkpoint", "identify", "load", "open_tensors"]
