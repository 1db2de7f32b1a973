"""Ops of MIL that no package of MobileCLIP uses, defined all the same: `lint` and `inspect` read packages of others.

Registered in the same table as those of `mil.ops`, by the same decorator.
"""

from __future__ import annotations

from mobileclip_deploy.mil.ops.other import (
    activation,
    attention,
    convolution,
    elementwise,
    gather,
    normalization,
    reduction,
    resize,
    scatter,
    shape,
    tensor,
)

__all__ = [
    "activation",
    "attention",
    "convolution",
    "elementwise",
    "gather",
    "normalization",
    "reduction",
    "resize",
    "scatter",
    "shape",
    "tensor",
]
