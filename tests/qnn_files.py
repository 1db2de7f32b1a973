"""Context binaries of a small network, for tests; where Qualcomm's compiler is missing the tests that ask say so."""

from pathlib import Path

import pytest
from packages import LINUX, require_package
from tiny import network
from writing import chosen, job_of

from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.values import Form

__all__ = ["network", "require_qnn", "write"]

NEEDS = "needs onnxruntime-qnn (Linux x86-64): pip install 'mobileclip-deploy[qnn]'"


def require_qnn() -> None:
    """See `require_package`; the emulator is in the package for Linux x86-64 alone."""
    if not LINUX:
        pytest.skip(NEEDS, allow_module_level=True)
    require_package("onnxruntime_qnn", NEEDS)


def write(model: MobileCLIP, tower: TowerName, chips: str, folder: Path, contexts: tuple[int, ...] = ()) -> Path:
    """A tower in float16, compiled for these chips, for each of these lengths."""
    path = folder / f"tiny_{tower}.qnn"
    job = job_of(model, tower, "fp16", form=Form(contexts=contexts))
    chosen("qnn", chip=chips).write(job, path)
    return path
