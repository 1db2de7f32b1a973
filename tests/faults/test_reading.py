"""What each format's reader sees: the fields of a file that decide what it computes, and nothing of how it is encoded.

The kinds of faults are planted in what the readers give: see test_kinds.py.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from faults import coreai_edits, coreml_edits, executorch_edits, litert_edits, onnx_edits
from faults.edits import Edit, said_of
from faults.files import Files, levels

from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target

FORMATS: dict[str, ModuleType] = {
    "onnx": onnx_edits,
    "coreml": coreml_edits,
    "coreai": coreai_edits,
    "litert": litert_edits,
    "executorch": executorch_edits,
}


def cases(edits: str) -> list[Any]:
    return [
        pytest.param(
            *(target, tower, precision, edit),
            id=f"{target}-{tower}-{precision}-{edit}",
            marks=levels(target, tower, precision),
        )
        for target, module in FORMATS.items()
        for edit in getattr(module, edits)
        for tower, precision in edit.files
    ]


def once(given: dict[str, object]) -> tuple[object, str]:
    """Every edit of every format."""
    return given["target"], str(given["edit"])


def said(files: Files, target: str, file: tuple[TowerName, str], edit: Edit[Any], folder: Path) -> list[str | None]:
    """What tells a file with an edit from the one without, and what has to be named."""
    healthy = files.path(target, *file)
    path = folder / f"edited{healthy.suffix}"
    named = FORMATS[target].edited(healthy, edit.plant, path)
    return [said_of(target, path, files.graph(target, *file)), named]


@pytest.mark.once(by=once)
@pytest.mark.parametrize(("target", "tower", "precision", "edit"), cases("FAULTS"))
def test_the_reader_sees_an_edit(
    files: Files, target: str, tower: TowerName, precision: str, edit: Edit[Any], tmp_path: Path
) -> None:
    text, named = said(files, target, (tower, precision), edit, tmp_path)
    assert text is not None
    assert named is None or named in text


@pytest.mark.once(by=once)
@pytest.mark.parametrize(("target", "tower", "precision", "edit"), cases("HARMLESS"))
def test_the_reader_passes_what_says_the_same(
    files: Files, target: str, tower: TowerName, precision: str, edit: Edit[Any], tmp_path: Path
) -> None:
    text, _ = said(files, target, (tower, precision), edit, tmp_path)
    assert text is None


@pytest.mark.parametrize("target", FORMATS)
def test_there_are_enough_edits_of_every_format(target: str) -> None:
    assert len(FORMATS[target].FAULTS) >= 10
    assert len(FORMATS[target].HARMLESS) >= 5


@pytest.mark.once("target")
@pytest.mark.parametrize(
    ("target", "edit"),
    [(target, edit) for target in ("onnx", "executorch") for edit in FORMATS[target].HARMLESS],
    ids=str,
)
def test_what_is_called_harmless_computes_the_same(files: Files, target: str, edit: Edit[Any], tmp_path: Path) -> None:
    healthy, ids = files.path(target, "text", "w4"), sample_inputs(files.model).ids[:2]
    path = tmp_path / f"edited{healthy.suffix}"
    FORMATS[target].edited(healthy, edit.plant, path)
    answers = (get_target(target).open(one).runner()(ids) for one in (healthy, path))
    np.testing.assert_array_equal(*answers)
