"""Every field of a manifest and of parity.json has a row that says which check sees it change."""

from __future__ import annotations

from pathlib import Path

import pytest
from exports import Exports
from faults.field_rows import ELSEWHERE, ROWS
from faults.field_table import FILES, Trial, model_fields

pytestmark = pytest.mark.usefixtures("stored_conversions")
WITHOUT_A_CHECK = {"on_word", "record"}
"""What `verify` prints as taken on the exporter's word, and what is no claim: versions, a machine, a moment."""


@pytest.fixture
def trial(exports: Exports, tmp_path: Path) -> Trial:
    return Trial.of(exports.bundle("onnx", "fp16"), tmp_path)


def test_every_field_of_the_models_has_a_row() -> None:
    fields = {name for model in FILES.values() for name in model_fields(model)}
    assert sorted(fields - ROWS.keys() - ELSEWHERE.keys()) == []
    assert sorted((ROWS.keys() | ELSEWHERE.keys()) - fields) == []
    assert not ROWS.keys() & ELSEWHERE.keys()


@pytest.mark.whole  # some of them, below
def test_the_check_of_each_row_sees_its_field_change(trial: Trial) -> None:
    seen = {name: changed for name, changed, _ in trial.table(ROWS)}
    wanted = {name: "nothing" if ROWS[name] in WITHOUT_A_CHECK else ROWS[name] for name in seen}
    assert seen == wanted


def test_each_check_sees_one_of_its_fields_change_and_dropped(trial: Trial) -> None:
    fields = {"Manifest.logit_scale", "TowerEntry.sha256", "RelevanceEntry.slope", "LicenceEntry.files"}
    seen = {name: (changed, dropped) for name, changed, dropped in trial.table(fields)}
    assert seen == {name: (ROWS[name], "opening") for name in fields}
    assert next(iter(trial.table({"Manifest.relevance"})))[2] == "requested"
