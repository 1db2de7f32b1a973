"""Golden inputs, written as raw files for any device."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.job import Dtype, RawTensor, Tensor
from mobileclip_deploy.network.model.variants import TowerName

if TYPE_CHECKING:  # `devices` works without torch
    from mobileclip_deploy.parity.reference import Reference

COLOURS = 3


def golden_inputs(reference: Reference, tower: TowerName, source: Tensor) -> npt.NDArray[Any]:
    """Returns a tower's inputs [N, ...] in the runtime's dtype; [N, S, S, 3] if the last dimension is colours.

    Args:
        reference: content of a bundle's golden.safetensors.
        source: the input; uint8 pixels are 255 times the float ones.
    """
    inputs: npt.NDArray[Any] = reference.inputs.of(tower)
    if source.dtype == "uint8":
        inputs = np.rint(inputs * 255)
    if tower == "image" and source.shape[-1] == COLOURS:
        inputs = inputs.transpose(0, 2, 3, 1)
    return inputs.astype(source.dtype)


def write_raw(values: npt.NDArray[Any], folder: Path, file: str) -> RawTensor:
    """Writes an array to `file`, a path below `folder`."""
    dtype: Dtype = values.dtype.name  # type: ignore[assignment]
    raw = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return RawTensor(file=file, sha256=hashlib.sha256(raw).hexdigest(), dtype=dtype, shape=values.shape)
