"""Faults of many kinds at once in bundles whose hashes fit again, through `verify`: each check names its own.

Of the targets whose tables of faults are held against the graph of a conversion alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from exports import rehash
from faults.files import require
from faults.test_companion_faults import golden, manifest, one_input, text
from faults.test_reading import FORMATS
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.targets import get_target

Edit = Callable[[Path], object]
Said = Mapping[tuple[str, str], str]
"""(tower, check) -> words of the check that failed."""
BESIDE: tuple[Edit, ...] = (
    manifest(lambda data: data.update(logit_scale=2 * data["logit_scale"])),
    text("tokenizer/merges.txt", "\ni n\n", "\n"),
    golden(one_input),
)
SAID_BESIDE: Said = {("both", "settings"): "logit_scale", ("both", "companions"): "merges.txt", ("text", "golden"): ""}
CASES: dict[str, tuple[str, tuple[str, ...], Said]] = {
    "coreai": (
        "w8",
        ("a word's row", "an integer of an operation", "the output called otherwise"),
        {
            ("text", "structure"): "embedding",
            ("text", "weights"): "token_embedding.weight has",
            ("text", "graph"): "relative",
            ("text", "reproduced"): "",
        },
    ),
    "litert": (
        "w8a8",
        ("a row of words", "a switch of an operator", "a step of activations", "another name of the output"),
        {
            ("text", "structure"): "result",
            ("text", "weights"): "token_embedding.weight has 1 of",
            ("text", "graph"): "a GELU is computed by tanh",
            ("text", "ranges"): "the checkpoint's values are within",
            ("text", "reproduced"): "",
        },
    ),
}
"""Target -> precision, the edits of its text tower, and what has to be said of them."""


@contextmanager
def asked_least(target: str) -> Iterator[None]:
    """Ask of every tower what the table of inputs has for the largest ones, where a runtime is slow."""
    kind = type(get_target(target))
    places = kind.capabilities.places
    if places.slow_runtime is None:
        yield
        return
    places = replace(places, slow_runtime=replace(places.slow_runtime, asked=places.slow_runtime.asked[-1:]))
    with mock.patch.object(kind, "capabilities", replace(kind.capabilities, places=places)):
        yield


@pytest.mark.once  # test_conformance.py plants a wrong number in every target
@pytest.mark.parametrize("target", CASES)
def test_every_check_finds_its_fault_in_one_bundle(target: str, tmp_path: Path) -> None:
    """A slow runtime is asked as few inputs as of the largest towers: none of these faults needs more."""
    require(target)
    torch.set_num_threads(1)
    (precision, edits, said), module = CASES[target], FORMATS[target]

    def plant(opened: Any) -> None:
        for name in edits:
            next(edit for edit in module.FAULTS if edit.name == name).plant(opened)

    with known(tmp_path) as checkpoint, asked_least(target):
        bundle = mcd.export(mcd.load_model(WORDS, checkpoint), target, precision, tmp_path / "out", tower="text")
        artifact = bundle.artifact("text")
        module.edited(artifact.rename(tmp_path / artifact.name), plant, artifact)
        for beside in BESIDE:
            beside(bundle.path)
        rehash(bundle.path)
        report = mcd.verify(bundle.path, checkpoint=checkpoint)
    found = {(check.tower, check.step): check.describe() for check in report.failed}
    wanted = {**SAID_BESIDE, **said}
    assert len(wanted) >= 6
    assert not {key: words for key, words in wanted.items() if words not in found.get(key, "passed")}
    assert all("\n" not in words for words in found.values())
