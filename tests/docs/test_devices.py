"""The table of people's devices takes what holds, refuses what does not, and shows names of strangers as text."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from benchmark.documents import result
from conversions import ROOT

from mobileclip_deploy.errors import MobileClipDeployError


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))  # scripts there import one another
    return runpy.run_path(str(ROOT / "benchmarks" / "devices.py"))["section"]


def sent(folder: Path, change: dict[str, Any], name: str = "pixel-9.json") -> Path:
    """A folder with a result: of a phone, by the standard protocol, its only measured model right."""
    whole: dict[str, Any] = json.loads(result().model_dump_json())
    whole["job"]["protocol"]["name"] = "standard"
    whole["device"] |= {"simulated": False}
    (folder / name).write_text(json.dumps(merged(whole, change)), encoding="utf-8")
    return folder


def test_a_right_model_has_a_row_and_a_wrong_one_none(section: Any, tmp_path: Path) -> None:
    assert "Nobody sent one yet." in section(tmp_path)
    page = section(sent(tmp_path, {"device": {"model": "<img src=x>|[a](b)\u202e`", "soc": "x" * 500}}))
    (row,) = [line for line in page.splitlines() if "img src" in line]
    assert "| nano-onnxruntime-fp32 | image | onnxruntime cpu, threads: 1 | 2.02 (median) |" in row
    assert row.endswith("| compared | pixel-9 |")
    assert "<img" not in row
    assert "\u202e" not in row
    assert len(row) < 500
    assert "nano-executorch-fp32" not in page  # it answered wrongly
    assert "| self-reported |" in section(sent(tmp_path, {"self_reported": True}))


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        ({"device": {"simulated": True}}, "a.json", "it is simulated"),
        ({"job": {"protocol": {"name": "standard-quick"}}}, "a.json", "measured by standard-quick"),
        ({"cells": [{"summary": {"median_ns": 1.0}}]}, "a.json", "its figures are not those of its own rounds"),
        ({"cells": [{"golden": {"passed": False, "cosine": 0.5}}]}, "a.json", "not those of its own rounds"),
        ({"cells": [{"status": "failed", "summary": None, "rounds": []}]}, "a.json", "no model was measured"),
        ({"surprise": 1}, "a.json", "surprise"),
        ({}, "Pixel 9.json", "small letters, digits and hyphens"),
    ],
)
def test_what_does_not_hold_is_refused(
    section: Any, change: dict[str, Any], name: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, MobileClipDeployError), match=said):
        section(sent(tmp_path, change, name))


def merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merged(old.get(key), value) for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list) and new:
        return [*(merged(one, change) for one, change in zip(old, new, strict=False)), *old[len(new) :]]
    return new
