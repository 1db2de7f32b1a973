"""Core AI assets of a small network, for tests; where the packages are missing the tests that ask for them say so."""

import tempfile
from pathlib import Path

import torch
from building import locked
from conversions import content
from packages import require_package
from tiny import tiny_variant
from torch import nn
from writing import job_of

from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target

NEEDS = "needs coreai-core and coreai-torch (Linux x86-64, macOS 26 arm64): pip install 'mobileclip-deploy[coreai]'"


def require_coreai() -> None:
    require_package("coreai_torch", NEEDS)


class Assets:
    """A network with every kind of block, folded, its weights drawn anew; each tower written once a precision.

    What is in its folder may be that of all processes of a run: nothing may change it.
    """

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.model: MobileCLIP = build_model(tiny_variant("tiny_mci")).eval()
        for name, parameter in self.model.named_parameters():
            # Scales around 1: around 0 nothing of a picture would be left in its answers.
            scales = (parameter.dim() < 2 and name.endswith("weight")) or "scale" in name or "gamma" in name
            nn.init.normal_(parameter, mean=1.0 if scales else 0.0, std=0.1)
        fold(self.model)
        self.folder = folder / content(self.model)

    def path(self, tower: TowerName, precision: str) -> Path:
        path = self.folder / f"{tower}_{precision}.aimodel"
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                    self.write(tower, precision, Path(folder) / path.name)
                    (Path(folder) / path.name).rename(path)
        return path

    def write(self, tower: TowerName, precision: str, path: Path) -> None:
        get_target("coreai").write(job_of(self.model, tower, precision), path)
