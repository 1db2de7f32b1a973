"""Golden inputs and outputs: written as raw files for any device, and answers compared with them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.job import Cell, Dtype, Golden, RawTensor, Tensor
from mobileclip_deploy.benchmark.result import GoldenOutcome
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.parity.reference import Reference

__all__ = ["golden_inputs", "outcome", "write_golden"]

COLOURS = 3


def golden_inputs(reference: Reference, tower: TowerName, source: Tensor) -> npt.NDArray[Any]:
    """A tower's inputs [N, ...] in the type that a runtime takes; [N, S, S, 3] where its last dimension is colours.

    Args:
        reference: what a bundle keeps as golden.safetensors.
        source: the input; uint8 pixels are the bytes that the others are 1/255 of.
    """
    inputs: npt.NDArray[Any] = reference.inputs.of(tower)
    if source.dtype == "uint8":
        inputs = np.rint(inputs * 255)
    if tower == "image" and source.shape[-1] == COLOURS:
        inputs = inputs.transpose(0, 2, 3, 1)
    return inputs.astype(source.dtype)


def write_golden(inputs: npt.NDArray[Any], outputs: npt.NDArray[np.float32], folder: Path, name: str) -> Golden:
    """Write a tower's inputs, and what the checkpoint answers, below `folder`.

    Args:
        inputs: see `golden_inputs`.
        outputs: [N, D], as they leave the artifact.
        name: of the files, without what tells one from the other.
    """
    dtype: Dtype = inputs.dtype.name  # type: ignore[assignment]
    shape = "" if inputs.shape[-1] != COLOURS else ".pictures"
    return Golden(
        inputs=_write(folder, f"golden/{name}.{dtype}{shape}.inputs.bin", inputs, dtype),
        outputs=_write(folder, f"golden/{name}.outputs.bin", outputs, "float32"),
    )


def outcome(cell: Cell, folder: Path, answers: npt.NDArray[Any]) -> GoldenOutcome:
    """Compare answers [N, D] to the first N golden inputs with the golden outputs in `folder`; not judged yet."""
    assert cell.golden is not None
    source = cell.golden.outputs
    golden = np.fromfile(folder / source.file, dtype="<f4").reshape(source.shape)[: len(answers)]
    if golden.shape != answers.shape:
        return GoldenOutcome(inputs=len(answers), cosine=-1.0, relative=None, passed=False)
    found = compare(golden, answers)
    relative = found.relative if np.isfinite(found.relative) else None
    return GoldenOutcome(inputs=len(answers), cosine=found.cosine, relative=relative, passed=True)


def _write(folder: Path, file: str, values: npt.NDArray[Any], dtype: Dtype) -> RawTensor:
    raw = np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<")).tobytes()
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return RawTensor(file=file, sha256=hashlib.sha256(raw).hexdigest(), dtype=dtype, shape=values.shape)
