"""Golden inputs and outputs: written as raw files for any device, and answers compared with them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.job import Cell, Dtype, Golden, RawTensor
from mobileclip_deploy.benchmark.result import GoldenOutcome
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.towers.head import Head

__all__ = ["outcome", "write_golden"]


def write_golden(reference: Reference, tower: TowerName, dtype: Dtype, folder: Path, name: str, head: Head) -> Golden:
    """Write a tower's inputs in the type that a runtime takes, and the checkpoint's embeddings, below `folder`.

    Args:
        reference: what a bundle keeps as golden.safetensors.
        dtype: of the inputs; uint8 pixels are the bytes that the others are 1/255 of.
        name: of the files, without what tells one from the other.
        head: at which length embeddings leave the artifact.
    """
    inputs: npt.NDArray[Any] = reference.inputs.of(tower)
    inputs = np.rint(inputs * 255) if dtype == "uint8" else inputs
    length = ".normalised" if head.normalised else ""
    return Golden(
        inputs=_write(folder, f"golden/{name}.{dtype}.inputs.bin", inputs, dtype),
        outputs=_write(folder, f"golden/{name}{length}.outputs.bin", head.scaled(reference.of(tower)), "float32"),
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
