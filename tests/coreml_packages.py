"""What tests of Core ML packages share: conversions made once, the size of weights, and what a recipe implies of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from mobileclip_deploy.targets.coreml import package
from mobileclip_deploy.targets.coreml.recipes import RECIPES

__all__ = ["implied_bytes", "shared_conversions", "specification", "weight_file"]


@contextmanager
def shared_conversions() -> Iterator[None]:
    """Convert a tower once for a deployment target, however many precisions it is compressed to: it takes longest."""
    converted: dict[tuple[int, str, str, bool], Any] = {}
    original = package.convert

    def convert(job, target, *names):  # type: ignore[no-untyped-def]
        key = id(job.variant), job.tower, target, job.precision == "fp32"
        if key not in converted:
            converted[key] = original(job, target, *names)
        return converted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "convert", convert)
        yield


def specification(path: Path) -> Any:
    """The package's model description as Core ML reads it."""
    from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString((path / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())


def weight_file(path: Path) -> tuple[int, int]:
    """Bytes of a package's weights without the header and metadata (64 bytes each) of the file; how many there are."""
    data = (path / "Data/com.apple.CoreML/weights/weight.bin").read_bytes()
    count = int(np.frombuffer(data[:4], np.uint32)[0])
    return len(data) - 64 * (count + 1), count


def implied_bytes(module: nn.Module, precision: str, target: str) -> float:
    """What a recipe's bits imply for a tower: weights of more than 2,048 numbers compressed, all else float16."""
    recipe, new = RECIPES[precision], target == "iOS18"
    total = 0.0
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        outputs, numbers = value.shape[0] if value.ndim else 1, value.numel()
        if recipe.weights == "plain":
            total += numbers * recipe.bits / 8
        elif value.ndim < 2 or numbers <= 2048 or "positional" in name or "earlier" in name:
            total += 2 * numbers
        elif recipe.bits == 8 or (value.ndim == 4 and value.shape[1] == 1) or _wide(name):
            total += numbers + outputs * (2 if new else 3)  # before iOS18 a zero point beside each scale
        elif recipe.weights == "linear":
            total += numbers * recipe.bits / 8 + 2 * numbers / 32 / value[0, 0].numel()
        else:
            stored = numbers * (1 + recipe.bits / 2) if recipe.sparsity else numbers * recipe.bits
            total += stored / 8 + 2 * 2**recipe.bits * (outputs / 32 if new else 1)
    return total


def _wide(name: str) -> bool:
    """The layers that no residual branch passes by."""
    return name.startswith(("encoder.stem.", "encoder.projection.")) or ".downsample.1." in name
