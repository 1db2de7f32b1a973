"""Every field of a manifest and of parity.json has a row that says which check sees it change."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exports import Exports
from faults.field_rows import ELSEWHERE, ROWS
from faults.field_table import FILES, Trial, model_fields, other

from mobileclip_deploy.verify.checks.companions import _difference

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


@pytest.mark.slow  # some of them, below
def test_the_check_of_each_row_sees_its_field_change(trial: Trial) -> None:
    seen = {name: changed for name, changed, _ in trial.table(ROWS)}
    wanted = {name: "nothing" if ROWS[name] in WITHOUT_A_CHECK else ROWS[name] for name in seen}
    assert seen == wanted


def test_each_check_sees_one_of_its_fields_change_and_dropped(trial: Trial) -> None:
    fields = {"Manifest.logit_scale", "TowerEntry.sha256", "RelevanceEntry.slope", "LicenceEntry.files"}
    seen = {name: (changed, dropped) for name, changed, dropped in trial.table(fields)}
    assert seen == {name: (ROWS[name], "opening") for name in fields}
    assert next(iter(trial.table({"Manifest.relevance"})))[2] == "requested"


def edits(value: Any) -> Iterator[Any]:
    """The value with each of its fields dropped, and each of its leaves changed."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        if isinstance(value, dict):
            yield {name: part for name, part in value.items() if name != key}
        for part in edits(value[key]):
            changed = value.copy()
            changed[key] = part
            yield changed
    if not keys:
        yield other("", value)


COMPANIONS = {
    "config.json": 14,
    "preprocessor_config.json": 11,
    "special_tokens_map.json": 4,
    "tokenizer_config.json": 12,
}
"""Files that are written again and compared whole, with the number of their leaves."""


@pytest.mark.parametrize("name", COMPANIONS)
def test_every_field_of_a_file_next_to_the_artifacts_is_compared(name: str, exports: Exports, tmp_path: Path) -> None:
    sound, count = exports.bundle("onnx", "fp16").path, 0
    for changed in edits(json.loads((sound / name).read_text(encoding="utf-8"))):
        (tmp_path / name).write_text(json.dumps(changed), encoding="utf-8")
        assert _difference(tmp_path, sound, name, "the checkpoint") is not None, changed
        count += 1
    assert count > COMPANIONS[name]


def test_every_json_file_of_a_bundle_has_rows_or_is_compared_whole(exports: Exports) -> None:
    names = {path.name for path in exports.bundle("onnx", "fp16").path.rglob("*.json")}
    assert names == {*FILES, *COMPANIONS, "tokenizer.json", "vocab.json"}  # the last two: words and merges
