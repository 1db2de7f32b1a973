"""Context binaries of a small network, for tests; where Qualcomm's compiler is missing the tests that ask say so."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_variant
from torch import nn
from writing import chosen, job_of

from mobileclip_deploy.folding import fold
from mobileclip_deploy.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.model.variants import TowerName

__all__ = ["network", "require_qnn", "write"]

NEEDS = "needs onnxruntime-qnn (Linux x86-64): pip install 'mobileclip-deploy[qnn]'"


def require_qnn() -> None:
    """Skip the module that calls it where Qualcomm's compiler is missing; in CI it fails where `.[dev]` has it."""
    here = (sys.platform, platform.machine()) == ("linux", "x86_64")
    if not here or importlib.util.find_spec("onnxruntime_qnn") is None:
        if os.environ.get("CI") and here:
            pytest.fail(NEEDS)
        pytest.skip(NEEDS, allow_module_level=True)


def network(seed: int = 0) -> MobileCLIP:
    """A network with every kind of block, folded, its weights drawn from a seed."""
    torch.manual_seed(seed)
    model = build_model(tiny_variant("tiny_mci")).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    fold(model)
    return model


def write(model: MobileCLIP, tower: TowerName, chips: str, folder: Path, union: bool = False) -> Path:
    """A tower in float16, compiled for these chips, and where it is wanted for all of them as one."""
    path = folder / f"tiny_{tower}.qnn"
    chosen("qnn", chip=chips, union=union).write(job_of(model, tower, "fp16"), path)
    return path
