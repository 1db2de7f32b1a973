"""The classifier head that coremltools' ClassifierConfig adds.

Definition: coremltools, converters/mil/mil/ops/defs/iOS15/classify.py.
"""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Labels, Tensor, op

__all__: list[str] = []


@op("classify", result=None)
def classify(probabilities: Tensor, classes: Labels) -> tuple[str | int, dict[str | int, float]]:
    """The label of the largest probability (the first of equal ones), and label -> probability."""
    flat = probabilities.reshape(-1)
    if flat.numel() != len(classes):
        raise InvalidInput(f"classify has {len(classes)} classes for {flat.numel()} probabilities")
    return classes[int(torch.argmax(flat))], dict(zip(classes, flat.tolist(), strict=True))
