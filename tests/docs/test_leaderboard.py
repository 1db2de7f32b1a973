"""The leaderboard takes what holds, refuses what does not, and shows names of strangers as text."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from benchmark.documents import result
from conversions import ROOT

TABLE = runpy.run_path(str(ROOT / "leaderboard" / "table.py"))


def whole(**device: Any) -> dict[str, Any]:
    """A result that is taken: of a phone, by the standard protocol, both cells right."""
    sent: dict[str, Any] = json.loads(result().model_dump_json())
    sent["job"]["protocol"]["name"] = "standard"
    sent["device"] |= {"simulated": False} | device
    return sent


def written(folder: Path, sent: dict[str, Any], name: str = "pixel-9.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(sent), encoding="utf-8")
    return folder


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *, code: int = 0) -> str:
    """The page, or what is said of what is refused."""
    out = tmp_path / "page.md"
    assert TABLE["main"](["--results", str(tmp_path / "results"), "-o", str(out)]) == code
    assert out.exists() is (code == 0)
    return capsys.readouterr().err if code else out.read_text(encoding="utf-8")


def test_the_page_in_docs_is_what_the_script_writes() -> None:
    page = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    assert page == TABLE["page"](ROOT / "leaderboard" / "results"), "type: python leaderboard/table.py"


def test_a_right_model_has_a_row_and_a_wrong_one_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "results", whole())
    page = run(tmp_path, capsys)
    rows = [line for line in page.splitlines() if line.startswith("| Pixel 0")]
    assert len(rows) == 1
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[:6] == [
        "Pixel 0, Android 16", "nano-onnxruntime-fp32", "image", "onnxruntime cpu, 1 thread", "2.02 (median)",
        cells[5],
    ]  # fmt: skip
    assert (cells[7], cells[-1]) == ("compared", "pixel-9")
    assert "nano-executorch-fp32" not in page  # it answered wrongly


def test_what_a_device_says_of_itself_alone_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "results", whole() | {"self_reported": True})
    assert "| self-reported |" in run(tmp_path, capsys)


def test_names_of_strangers_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "results", whole(model="<img src=x>|[a](b)\u202e`", soc="x" * 500))
    (row,) = [line for line in run(tmp_path, capsys).splitlines() if "img src" in line]
    assert "<img" not in row
    assert "\u202e" not in row
    assert row.count(" | ") == len(TABLE["COLUMNS"]) - 1
    assert len(row) < 500


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": {"simulated": True}}, "it is simulated"),
        ({"job": {"protocol": {"name": "standard-quick"}}}, "not the quick look"),
        ({"cells": [{"summary": {"median_ns": 1.0}}]}, "its figures are not those of its own rounds"),
        ({"cells": [{"golden": {"passed": False, "cosine": 0.5}, "rounds": []}]}, "answered wrongly, or was not asked"),
        ({"cells": [{"status": "failed", "summary": None, "rounds": []}]}, "no model of this toolkit was measured"),
        ({"schema_version": 9}, "schema version"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_does_not_hold_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "results", merged(whole(), change))
    assert said in run(tmp_path, capsys, code=1)


@pytest.mark.parametrize("name", ["Pixel 9.json", "-x.json", "..json", "a.html"])
def test_a_name_is_plain(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "results", whole(), name)
    assert "small letters, digits and hyphens" in run(tmp_path, capsys, code=1)


def merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merged(old.get(key), value) for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list) and new:
        return [*(merged(one, change) for one, change in zip(old, new, strict=False)), *old[len(new) :]]
    return new
