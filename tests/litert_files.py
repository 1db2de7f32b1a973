"""LiteRT files of a small network, for tests; where the packages are missing the tests that ask for them say so."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from conversions import content
from packages import require_package
from tiny import network
from writing import job_of

from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.values import Shared

NEEDS = "needs litert-torch (Linux x86-64, macOS arm64): pip install 'mobileclip-deploy[litert]'"


def require_litert() -> None:
    require_package("litert_torch", NEEDS)


class Files:
    """A small network; each tower written once a precision."""

    def __init__(self, folder: Path) -> None:
        self.model = network()
        self.folder = folder / content(self.model)
        self.shared: dict[TowerName, Shared] = {"image": Shared(), "text": Shared()}

    def path(self, tower: TowerName, precision: str) -> Path:
        path = self.folder / f"{tower}_{precision}.tflite"
        if not path.exists():  # two processes may both write it: the same bytes
            self.folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}")
            self.write(tower, precision, part, self.shared[tower])
            part.replace(path)
        return path

    def write(self, tower: TowerName, precision: str, path: Path, shared: Shared | None = None) -> None:
        """Convert anew, or with what other precisions share."""
        measured = (tower, precision) == ("text", "w8a8")  # on ids: it does not know the words of the packaged prompts
        job = job_of(self.model, tower, "fp32" if measured else precision, shared=shared)
        if measured:
            ids = np.random.default_rng(1).integers(1, 90, (8, 8))
            ids[:, 0], ids[:, 6] = 90, 91
            job = replace(job, precision=precision, calibration=ids)
        get_target("litert").write(job, path)
