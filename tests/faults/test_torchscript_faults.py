"""Faults in TorchScript files of a small network: each is a difference from what a trace gives."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from faults.kinds import Edit, cases, require_kinds
from faults.torchscript_faults import FAULTS, HARMLESS, Entries
from tiny import tiny_variant
from writing import job_of

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.folding import fold
from mobileclip_deploy.model.architecture import build_model
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import Graph, first_difference

PRECISIONS: dict[TowerName, tuple[str, ...]] = {"image": ("fp32",), "text": ("fp32",)}
Healthy = Mapping[TowerName, tuple[Entries, Graph]]


def graph(path: Path) -> Graph:
    found = get_target("torchscript").graph(path)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Healthy:
    torch.manual_seed(0)
    model, folder = build_model(tiny_variant("tiny_mci")), tmp_path_factory.mktemp("healthy")
    fold(model)
    found = {}
    for tower in TOWERS:
        path = folder / f"{tower}.ts"
        get_target("torchscript").write(job_of(model, tower, "fp32"), path)
        with zipfile.ZipFile(path) as archive:
            found[tower] = {name: archive.read(name) for name in archive.namelist()}, graph(path)
    return found


def planted(healthy: Healthy, tower: TowerName, edit: Edit[Entries], folder: Path) -> str | None:
    """What tells a file with an edit from the one without."""
    entries, wanted = dict(healthy[tower][0]), healthy[tower][1]
    edit.plant(entries)
    with zipfile.ZipFile(folder / "planted.ts", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    try:
        difference = first_difference(graph(folder / "planted.ts"), wanted)
    except InvalidInput as error:
        return str(error)
    return None if difference is None else difference.describe()


@pytest.mark.parametrize(("tower", "precision", "edit"), cases(FAULTS, PRECISIONS))
def test_every_fault_is_found(
    healthy: Healthy, tower: TowerName, precision: str, edit: Edit[Entries], tmp_path: Path
) -> None:
    found = planted(healthy, tower, edit, tmp_path)
    assert found is not None
    assert "not a readable" not in found  # torch opens it: nobody else would notice


@pytest.mark.parametrize(("tower", "precision", "edit"), cases(HARMLESS, PRECISIONS))
def test_what_says_the_same_passes(
    healthy: Healthy, tower: TowerName, precision: str, edit: Edit[Entries], tmp_path: Path
) -> None:
    assert planted(healthy, tower, edit, tmp_path) is None


def test_there_are_as_many_kinds_as_of_every_target() -> None:
    require_kinds(FAULTS, HARMLESS)
