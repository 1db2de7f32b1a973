"""Faults in LiteRT files, in float32 and int8: each is a difference from what a conversion gives."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from conversions import Store
from faults.kinds import Edit, cases, require_kinds
from faults.litert_faults import FAULTS, HARMLESS
from litert_files import Files, require_litert

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import Difference, Graph, first_difference
from mobileclip_deploy.targets.litert.editing import Editor

require_litert()

PRECISIONS: dict[TowerName, tuple[str, ...]] = {"image": ("w8a8",), "text": ("w4",)}


@pytest.fixture(scope="module")
def files(store: Store) -> Files:
    return Files(store.folder / "litert")


@cache
def graph(path: Path) -> Graph | None:
    return get_target("litert").open(path).graph


def planted(healthy: Path, edit: Edit[Editor], folder: Path) -> tuple[Difference | None, str | None]:
    """What tells a file with an edit from the one without."""
    editor = Editor(healthy.read_bytes())
    named = edit.plant(editor)
    (folder / "planted.tflite").write_bytes(editor.packed())
    wanted = graph(healthy)
    written = get_target("litert").open(folder / "planted.tflite").graph
    assert written is not None
    assert wanted is not None
    return first_difference(written, wanted), named


@pytest.mark.once("edit")
@pytest.mark.parametrize(("tower", "precision", "edit"), cases(FAULTS, PRECISIONS))
def test_every_fault_is_found(
    files: Files, tower: TowerName, precision: str, edit: Edit[Editor], tmp_path: Path
) -> None:
    difference, named = planted(files.path(tower, precision), edit, tmp_path)
    assert difference is not None
    assert named is None or named in difference.describe()


@pytest.mark.once("edit")
@pytest.mark.parametrize(("tower", "precision", "edit"), cases(HARMLESS, PRECISIONS))
def test_what_says_the_same_passes(
    files: Files, tower: TowerName, precision: str, edit: Edit[Editor], tmp_path: Path
) -> None:
    assert planted(files.path(tower, precision), edit, tmp_path)[0] is None


def test_there_are_as_many_kinds_as_of_every_target() -> None:
    require_kinds(FAULTS, HARMLESS)
