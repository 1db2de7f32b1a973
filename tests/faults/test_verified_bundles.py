"""Faults of many kinds at once in bundles whose hashes fit again, through `verify`: each check names its own.

Of the targets whose tables of faults are held against the graph of a conversion alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conversions import Store
from exports import rehash
from faults.files import require
from faults.test_companion_faults import golden, manifest, one_input, text
from faults.unconverted import asked_least
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.model.variants import TowerName

Edit = Callable[[Path], object]
Said = Mapping[tuple[str, str], str]
"""(tower, check) -> words of the check that failed."""
BESIDE: tuple[Edit, ...] = (
    manifest(lambda data: data.update(logit_scale=2 * data["logit_scale"])),
    text("tokenizer/merges.txt", "\ni n\n", "\n"),
    golden(one_input),
)
SAID_BESIDE: Said = {("both", "settings"): "logit_scale", ("both", "companions"): "merges.txt"}


@dataclass(frozen=True)
class Case:
    """A bundle, the edits of its artifacts, and what has to be said of them."""

    target: str
    precision: str
    edits: Mapping[TowerName, Edit]
    said: Said

    def __str__(self) -> str:
        return self.target


def in_flatbuffer(*names: str) -> Edit:
    def plant(path: Path) -> None:
        from faults.litert_edits import FAULTS

        from mobileclip_deploy.targets.litert.editing import Editor

        editor = Editor(path.read_bytes())
        for name in names:
            next(edit for edit in FAULTS if edit.name == name).plant(editor)
        path.write_bytes(editor.packed())

    return plant


def in_asset(*names: str) -> Edit:
    def plant(path: Path) -> None:
        from faults.coreai_edits import FAULTS

        from mobileclip_deploy.targets.coreai.asset import Asset

        asset = Asset(path)
        for name in names:
            next(edit for edit in FAULTS if edit.name == name).plant(asset)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        asset.program.save_asset(path)

    return plant


CASES = [
    Case(
        "litert",
        "w8a8",
        {
            "text": in_flatbuffer(
                "a row of words", "a switch of an operator", "a step of activations", "another name of the output"
            )
        },
        {
            ("text", "structure"): "result",
            ("text", "weights"): "token_embedding.weight has 1 of",
            ("text", "graph"): "a GELU is computed by tanh",
            ("text", "ranges"): "the checkpoint's values are within",
            ("text", "reproduced"): "",
        },
    ),
    Case(
        "coreai",
        "w8",
        {"text": in_asset("a word's row", "an integer of an operation", "the output called otherwise")},
        {
            ("text", "structure"): "embedding",
            ("text", "weights"): "token_embedding.weight has",
            ("text", "graph"): "relative",
            ("text", "reproduced"): "",
        },
    ),
]


@pytest.mark.once  # test_conformance.py plants a wrong number in every target
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_check_finds_its_fault_in_one_bundle(case: Case, store: Store, tmp_path: Path) -> None:
    """A slow runtime is asked as few inputs as of the largest towers: none of these faults needs more."""
    require(case.target)
    torch.set_num_threads(1)
    only: dict[str, TowerName] = {} if len(case.edits) > 1 else {"tower": next(iter(case.edits))}
    with known(tmp_path) as checkpoint, store.conversions(), asked_least(case.target):
        bundle = mcd.export(mcd.load_model(WORDS, checkpoint), case.target, case.precision, tmp_path / "out", **only)
        for tower, edit in case.edits.items():
            edit(bundle.artifact(tower))
        for beside in BESIDE:
            beside(bundle.path)
        rehash(bundle.path)
        report = mcd.verify(bundle.path, checkpoint=checkpoint)
    found = {(check.tower, check.step): check.describe() for check in report.failed}
    wanted = SAID_BESIDE | {(tower, "golden"): "" for tower in case.edits} | case.said
    assert len(wanted) >= 6
    assert not {key: words for key, words in wanted.items() if words not in found.get(key, "passed")}
    assert all("\n" not in words for words in found.values())
