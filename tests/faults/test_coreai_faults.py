"""Faults in Core AI assets, with whole weights and at 4 bits: each is a difference from what a conversion gives."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from conversions import Store
from coreai_assets import Assets, require_coreai
from faults.coreai_faults import FAULTS, HARMLESS
from faults.kinds import Edit, cases, require_kinds

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.coreai.asset import Asset, is_readable
from mobileclip_deploy.targets.graph import Difference, Graph, first_difference

require_coreai()

PRECISIONS: dict[TowerName, tuple[str, ...]] = {"image": ("fp32", "w4"), "text": ("fp32", "w4p")}


@pytest.fixture(scope="module")
def assets(store: Store) -> Assets:
    return Assets(store.folder / "coreai")


@cache
def graph(path: Path) -> Graph | None:
    return get_target("coreai").open(path).graph


def planted(healthy: Path, edit: Edit[Asset], folder: Path) -> tuple[Difference | None, str | None]:
    """What tells an asset with an edit, written anew with a hash that fits, from the one without."""
    asset = Asset(healthy)
    named = edit.plant(asset)
    asset.program.save_asset(folder / "planted.aimodel")
    is_readable(folder / "planted.aimodel")
    return first_difference(get_target("coreai").open(folder / "planted.aimodel").graph, graph(healthy)), named


@pytest.mark.once("edit")
@pytest.mark.parametrize(("tower", "precision", "edit"), cases(FAULTS, PRECISIONS))
def test_every_fault_is_found(
    assets: Assets, tower: TowerName, precision: str, edit: Edit[Asset], tmp_path: Path
) -> None:
    difference, named = planted(assets.path(tower, precision), edit, tmp_path)
    assert difference is not None
    assert named is None or named in difference.describe()


@pytest.mark.once("edit")
@pytest.mark.parametrize(("tower", "precision", "edit"), cases(HARMLESS, PRECISIONS))
def test_what_says_the_same_passes(
    assets: Assets, tower: TowerName, precision: str, edit: Edit[Asset], tmp_path: Path
) -> None:
    assert planted(assets.path(tower, precision), edit, tmp_path)[0] is None


def test_there_are_as_many_kinds_as_of_every_target() -> None:
    require_kinds(FAULTS, HARMLESS)
