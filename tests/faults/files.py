"""Artifacts of every target at every kind of precision, each written once for all processes."""

import tempfile
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path

import coreai_assets
import litert_files
import pytest
from building import locked
from conversions import Store
from coreml_packages import shared_conversions
from exports import Exports
from writing import chosen, job_of

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target, get_target
from mobileclip_deploy.targets.graph import Graph

# Of Core ML the deployment target follows. What the other tower has, or another precision stores alike, a tower need
# not have.
PRECISIONS: Mapping[str, Mapping[TowerName, tuple[str, ...]]] = {
    "onnx": {"text": ("w8", "w4", "w8a8", "fp16"), "image": ("w8a8", "w4", "fp32")},
    "coreml": {
        "text": ("w8a8-iOS17", "w4p-iOS16", "fp16-iOS16", "w4-iOS18", "w4p-iOS18", "w4p-p50-iOS18"),
        "image": ("w8a8-iOS17", "w4p-iOS16", "w6p-iOS16", "w8-iOS16", "fp32-iOS16", "w4-iOS18"),
    },
    "coreai": {"text": ("w4p", "fp32"), "image": ("w4", "fp32")},
    "litert": {"text": ("w4", "fp16"), "image": ("w8a8",)},
    "executorch": {"text": ("w4", "w8", "fp32"), "image": ("w8a8", "fp32")},
}
QUICK: Collection[tuple[str, TowerName, str]] = (
    ("onnx", "text", "w4"),
    ("onnx", "image", "w8a8"),
    ("coreml", "text", "fp16-iOS16"),
    ("coreml", "text", "w4p-iOS16"),
    ("coreml", "image", "w8a8-iOS17"),
    ("coreai", "text", "w4p"),
    ("coreai", "image", "w4"),
    ("litert", "text", "w4"),
    ("litert", "image", "w8a8"),
    ("executorch", "text", "w4"),
)
"""Those that `make test` plants in: together they have every kind of fault, and each conversion takes seconds."""
FILES: list[tuple[str, TowerName, str]] = [
    (target, tower, precision)
    for target, towers in PRECISIONS.items()
    for tower, precisions in towers.items()
    for precision in precisions
]


def levels(target: str, tower: TowerName, precision: str) -> list[pytest.MarkDecorator]:
    """Marks of a case that plants in this file."""
    return [] if (target, tower, precision) in QUICK else [pytest.mark.slow]


def require(target: str) -> None:
    """Skip what is not installed; in CI it fails where `.[test]` has it."""
    {"coreai": coreai_assets.require_coreai, "litert": litert_files.require_litert}.get(target, lambda: None)()


class Files:
    """Healthy files: the built-in network's, and of Core AI and LiteRT those of a small one."""

    def __init__(self, store: Store) -> None:
        self.store, self._graphs = store, dict[Path, Graph]()
        self._assets = coreai_assets.Assets(store.folder / "coreai")
        self._flatbuffers = litert_files.Files(store.folder / "litert")

    @cached_property
    def model(self) -> MobileCLIP:
        model = mcd.load_model()
        mcd.reparameterize(model)
        return model

    def network(self, target: str) -> MobileCLIP:
        """The folded network that a target's files are of."""
        return {"coreai": self._assets.model, "litert": self._flatbuffers.model}.get(target) or self.model

    def target(self, target: str, precision: str) -> tuple[Target, str]:
        """What writes a file, and the precision in the words of `job_of`."""
        if target != "coreml":
            return get_target(target), precision
        name, _, system = precision.rpartition("-")
        return chosen(target, deployment_target=system), name

    def path(self, target: str, tower: TowerName, precision: str) -> Path:
        """A file that nothing may change; of Core ML the deployment target follows the precision."""
        require(target)
        if target == "coreai":
            return self._assets.path(tower, precision)
        if target == "litert":
            return self._flatbuffers.path(tower, precision)
        if target == "onnx":
            return Exports(self.store).unverified(target, precision, "both").artifact(tower)
        own, name = self.target(target, precision)
        path = self.store.folder / "faults" / f"{target}-{tower}-{precision}{own.capabilities.formats.suffixes[0]}"
        with locked(path.with_suffix(".lock")), self.store.conversions(), shared_conversions():
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                    own.write(job_of(self.model, tower, name), Path(folder) / path.name)
                    (Path(folder) / path.name).rename(path)
        return path

    def graph(self, target: str, tower: TowerName, precision: str) -> Graph:
        path = self.path(target, tower, precision)
        if path not in self._graphs:
            self._graphs[path] = get_target(target).open(path).graph
        return self._graphs[path]
