"""Bundles of nano that the faults are planted in, with the checkpoint's answers; built once."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from conversions import Store
from faults.files import Files
from faults.planting import Planted
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.computing import compute_reference
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.mil import load
from mobileclip_deploy.verify.checks.folded import check_folded
from mobileclip_deploy.verify.checks.shipped import check_shipped
from mobileclip_deploy.verify.checks.structure import check_structure
from mobileclip_deploy.verify.checks.tower import check_tower
from mobileclip_deploy.verify.checks.twin import check_twin
from mobileclip_deploy.verify.inspect.linting import program_input
from mobileclip_deploy.verify.reports.explanation import Followed
from mobileclip_deploy.verify.subject import OpenedSubject

PHOTOS, PROMPTS = 2, 4


@dataclass
class Healthy:
    """A bundle as exported, the folded checkpoint, and its answers to a few real inputs."""

    bundle: Bundle
    model: MobileCLIP
    reference: Reference

    @cached_property
    def programs(self) -> dict[str, Followed]:
        return {tower: followed(self.bundle, tower) for tower in self.bundle.manifest.towers}

    def feeds(self, tower: TowerName) -> list[dict[str, Any]]:
        """What the program of a tower is evaluated on."""
        count = len(self.reference.inputs.of(tower))
        return [program_input(self.programs[tower].program, self.reference.inputs, index) for index in range(count)]

    def copy(self, tower: TowerName, folder: Path) -> Bundle:
        """A bundle of one tower to be damaged."""
        entry = self.bundle.manifest.towers[tower]
        shutil.copytree(self.bundle.artifact(tower), folder / entry.file)
        manifest = self.bundle.manifest.model_copy(update={"towers": {tower: entry}})
        return Bundle(folder, manifest)

    def edited(self, tower: TowerName, folder: Path, plant: Any) -> tuple[Bundle, str | None]:
        """A copy of a tower with an edit in it, and the operation that is at fault; its manifest is as it was."""
        entry = self.bundle.manifest.towers[tower]
        package = Planted(self.bundle.artifact(tower), folder / entry.file)
        name = plant(package)
        package.save()
        return Bundle(folder, self.bundle.manifest.model_copy(update={"towers": {tower: entry}})), name

    def planted(self, tower: TowerName, folder: Path, plant: Any) -> tuple[Bundle, str | None]:
        """The same with its manifest stamped anew, so that the bundle can be opened."""
        bundle, name = self.edited(tower, folder, plant)
        return restamped(bundle), name

    def checks(self, bundle: Bundle, tower: TowerName) -> list[Check]:
        """What `verify` finds in a bundle of one tower; a package that does not load is not run."""
        own = self.subject(bundle)
        proof = own.towers[tower]
        structure = check_structure(proof)
        try:
            load(bundle.artifact(tower))
        except mcd.MobileClipDeployError:
            return structure
        return [*structure, *check_folded(proof), *check_tower(proof), *check_twin(proof), *check_shipped(proof)]

    def subject(self, bundle: Bundle, **more: Any) -> OpenedSubject:
        """A bundle of this checkpoint, to be verified."""
        folder = tempfile.mkdtemp(prefix="again-", dir=bundle.path.parent)  # a package is never written over another
        return subject(bundle, self.model, self.reference, Path(folder), **more)


def followed(bundle: Bundle, tower: TowerName) -> Followed:
    """The artifact of a tower as `--explain` reads it."""
    return Followed.read(get_target("coreml").open(bundle.artifact(tower)))


def restamped(bundle: Bundle) -> Bundle:
    """The bundle with the sizes and hashes that its files have now: nothing but their numbers is wrong with them."""
    towers = {
        tower: entry.model_copy(
            update={"bytes": artifact_bytes(bundle.artifact(tower)), "sha256": artifact_sha256(bundle.artifact(tower))}
        )
        for tower, entry in bundle.manifest.towers.items()
    }
    alone = {} if (bundle.path / "LICENSES").exists() else {"licence": None}  # artifacts alone
    manifest = bundle.manifest.model_copy(update={"towers": towers, **alone})
    (bundle.path / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.open(bundle.path)


def build(precision: str, folder: Path, store: Store) -> Healthy:
    """Export nano, and ask it a few of the stored inputs."""
    torch.set_num_threads(1)
    model = mcd.load_model()
    with store.conversions():
        bundle = mcd.export(model, "coreml", precision, folder, verify=False)
    inputs = Reference.read(bundle.golden).inputs
    few = replace(
        inputs,
        images=inputs.images[:PHOTOS],
        prompts=inputs.prompts[:PROMPTS],
        pixels=inputs.pixels[:PHOTOS],
        ids=inputs.ids[:PROMPTS],
    )
    return Healthy(bundle, model, compute_reference(model, few))


@pytest.fixture(scope="session")
def healthy(session_folder: Path, store: Store) -> Healthy:
    return build("fp32", session_folder / "fp32", store)


@pytest.fixture(scope="session")
def half(session_folder: Path, store: Store) -> Healthy:
    return build("fp16", session_folder / "fp16", store)


@pytest.fixture(scope="session")
def files(store: Store) -> Files:
    """Healthy files of every target."""
    return Files(store)
