"""benchmarks/guard.py: what got slower than in the last results of the same kind of processor is named."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark import documents

from mobileclip_deploy.targets import get_target

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as when suites.py runs it; it and what it imports are forgotten again."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("guard")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS)):
            del sys.modules[name]


def result(guard: ModuleType, ratios: dict[str, tuple[float, float, float]]) -> Any:
    """A run of one variant in ONNX Runtime: each setting with its ratio and interval."""
    rows = [
        guard.GuardRow(variant="nano", precision="w8a8", target="onnx", setting=name, ratio=ratio, low=low, high=high)
        for name, (ratio, low, high) in ratios.items()
    ]
    return guard.GuardResult(device=documents.result().device, rounds=24, rows=tuple(rows))


def test_the_kept_results_are_the_guards_and_have_a_row_for_each_setting(guard: ModuleType) -> None:
    for file in sorted((SCRIPTS / "results").glob("guard-*.json")):
        kept = guard.GuardResult.model_validate_json(file.read_bytes())
        assert {row.setting for row in kept.rows} == {one.name for _, _, one in guard.settings()}, file.name
        assert all(row.low <= row.ratio <= row.high for row in kept.rows)


def test_what_takes_a_fifth_longer_is_named_with_both_intervals(guard: ModuleType) -> None:
    before = result(guard, {"as shipped": (1.2, 1.17, 1.23), "2 threads": (1.0, 0.97, 1.03)})
    now = result(guard, {"as shipped": (1.0, 0.98, 1.02), "2 threads": (1.0, 0.97, 1.03)})
    assert guard.slower(before, now) == [
        "nano w8a8 onnx as shipped: takes 1.20 times as long (1.2 [1.17, 1.23] before, 1 [0.98, 1.02] now)"
    ]


def test_what_the_intervals_explain_and_what_got_faster_is_not(guard: ModuleType) -> None:
    before = result(guard, {"as shipped": (1.2, 1.1, 1.3), "2 threads": (1.0, 0.97, 1.03)})
    now = result(guard, {"as shipped": (1.0, 0.9, 1.1), "2 threads": (1.5, 1.4, 1.6)})
    assert guard.slower(before, now) == []


def test_a_row_that_is_measured_no_longer_is_named(guard: ModuleType) -> None:
    before = result(guard, {"as shipped": (1.2, 1.1, 1.3), "2 threads": (1.0, 0.97, 1.03)})
    now = result(guard, {"as shipped": (1.2, 1.1, 1.3)})
    assert guard.slower(before, now) == ["nano w8a8 onnx 2 threads: measured before, and no longer"]


def test_every_runtime_has_rows_and_what_is_planted_is_in_each_session_of_onnx_runtime(guard: ModuleType) -> None:
    option = ("session.x64quantprecision", "1")
    rows = guard.settings([option])
    assert {one.target for _, _, one in rows} == {"onnx", "executorch", "litert", "coreai", "coreml"}
    assert all((option in one.options) == (one.target == "onnx") for _, _, one in rows)
    names = [(variant, precision, one.target, one.name) for variant, precision, one in rows]
    assert len(set(names)) == len(names)


def test_what_has_no_place_on_this_machine_is_timed_as_verify_runs_it(
    guard: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    artifact = SimpleNamespace(runner=lambda: lambda pixels: pixels.sum(axis=(1, 2, 3))[:, None])
    (setting,) = [one for one in guard.SETTINGS if one.target == "coreml"]
    session = guard._opened(get_target("coreml"), artifact, {}, setting)
    session.feed(np.full((1, 3, 2, 2), 255, np.uint8))
    session.run()
    assert session.answer() == [12]
