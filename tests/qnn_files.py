"""Context binaries of a small network, for tests; where Qualcomm's compiler is missing the tests that ask say so."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

import pytest
from tiny import network
from writing import chosen, job_of

from mobileclip_deploy.model.architecture import MobileCLIP
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


def write(model: MobileCLIP, tower: TowerName, chips: str, folder: Path, union: bool = False) -> Path:
    """A tower in float16, compiled for these chips, and where it is wanted for all of them as one."""
    path = folder / f"tiny_{tower}.qnn"
    chosen("qnn", chip=chips, union=union).write(job_of(model, tower, "fp16"), path)
    return path
