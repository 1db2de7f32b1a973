"""Golden checkpoints exported and run: how far an artifact is from what the reference implementations answer."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from golden_weights import Golden
from torch import Tensor

from mobileclip_deploy.checkpoints import identify
from mobileclip_deploy.checkpoints.loading import assemble
from mobileclip_deploy.folding import fold
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity import Deviation, compare
from mobileclip_deploy.targets import TowerJob, get_target
from mobileclip_deploy.towers import example_input, make_tower

__all__ = ["export_golden", "folded_golden", "golden_deviation", "semantic_bound"]


@lru_cache(maxsize=1)
def folded_golden(name: str) -> MobileCLIP:
    """A golden checkpoint, folded; the last one asked for is kept."""
    golden = Golden(name)
    model = assemble(identify(golden.file(), golden.variant))
    fold(model)
    return model


def export_golden(name: str, tower: TowerName, backend: str, precision: str, folder: Path) -> Path:
    """One tower of a golden checkpoint as a .pte; `precision` must need no calibration images of its own."""
    model = folded_golden(name)
    target = get_target(f"executorch-{backend}")
    path = folder / target.artifact_name(model.variant, tower, precision)
    job = TowerJob(
        variant=model.variant,
        tower=tower,
        module=make_tower(model, tower),
        example=example_input(model, tower),
        precision=precision,
        licence="",
    )
    target.write(job, path)
    return path


def golden_deviation(name: str, tower: TowerName, path: Path) -> Deviation:
    """What an artifact answers against the golden embeddings of the unfolded reference."""
    golden = Golden(name)
    inputs = golden.images if tower == "image" else golden.tokens
    outputs = get_target("executorch").runner(path)(inputs.numpy())
    return compare(_expected(golden, tower).numpy(), outputs)


def semantic_bound(name: str, tower: TowerName) -> float:
    """The largest relative deviation in float32 (golden/README.md)."""
    return Golden(name).image_bound if tower == "image" else 3e-5


def _expected(golden: Golden, tower: TowerName) -> Tensor:
    expected = golden.arrays[f"{tower}_embeddings"]
    assert expected.dtype == torch.float32
    return expected
