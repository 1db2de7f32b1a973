"""The definitions of the ops, one file a family; importing this package fills the table `OPS`."""

from __future__ import annotations

from mobileclip_deploy.mil.ops import (
    activation,
    attention,
    classify,
    convolution,
    elementwise,
    gather,
    normalization,
    quantization,
    reduction,
    resize,
    scatter,
    shape,
    tensor,
)
from mobileclip_deploy.mil.ops.registry import OPS, Kernel, Parameter

__all__ = [
    "OPS",
    "Kernel",
    "Parameter",
    "activation",
    "attention",
    "classify",
    "convolution",
    "elementwise",
    "gather",
    "normalization",
    "quantization",
    "reduction",
    "resize",
    "scatter",
    "shape",
    "tensor",
]
