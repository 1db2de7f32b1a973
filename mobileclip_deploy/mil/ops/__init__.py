"""Definitions of the ops that packages of MobileCLIP use, one file per family.

These are the ops that coremltools writes for image towers, text towers and classifiers of every variant, at every
precision and deployment target that this package exports. Importing this package fills the table `OPS`. A package with
any other op can be inspected and linted, but not evaluated.
"""

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
    "shape",
    "tensor",
]
