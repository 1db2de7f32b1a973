"""benchmarks/suites.py, ratios.py and guard.py: ratios with their intervals, runs until they are known, and what got
slower than in the last results of the same kind of processor."""

import importlib
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark import documents

from mobileclip_deploy.benchmark.documents import write_document
from mobileclip_deploy.benchmark.host.machine import describe
from mobileclip_deploy.benchmark.result import OperatorTime, Result
from mobileclip_deploy.benchmark.statistics import summarize
from mobileclip_deploy.targets import get_target

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/suites.py as when it is run; it and what it imports are forgotten again."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("suites")
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS)):
            del sys.modules[name]


@pytest.fixture
def guard(suites: ModuleType) -> Any:
    return suites.guard


def run(base: list[int], own: list[int]) -> Result:
    """Both cells done, an inference a round, with these CPU microseconds."""
    whole = documents.result().model_dump(mode="json")
    whole["job"]["protocol"]["rounds"] = len(base)
    whole["job"]["order"] = [
        {"cell": cell["id"], "round": r} for cell in whole["job"]["cells"] for r in range(len(base))
    ]
    template = whole["cells"][0]["rounds"][0]
    for cell, times in zip(whole["cells"], (base, own), strict=True):
        summary = summarize([[1000]] * len(times), [1000 * time for time in times], 0.0).model_dump(mode="json")
        rounds = [
            template | {"cell": cell["id"], "round": number, "samples_ns": [1000], "cpu_ns": 1000 * time}
            for number, time in enumerate(times)
        ]
        cell |= {"status": "done", "error": None, "golden": documents.GOLDEN, "summary": summary, "rounds": rounds}
    return Result.model_validate(whole)


def suite(suites: ModuleType) -> Any:
    return suites.Suite("Title", "Claim.", "onnxruntime", lambda _: None)


def test_a_claim_names_what_was_measured_alone(suites: ModuleType) -> None:
    measured = run([1], [1])
    runtimes = {cell.runtime for cell in measured.job.cells}
    parts = {name: name.upper() for name in sorted(runtimes)} | {"plain.tflite": "LITERT"}
    told = suites.Suite("Title", "Towers in {}.", "x", lambda _: None, parts=parts)
    assert told.claimed(measured) == f"Towers in {' and '.join(name.upper() for name in sorted(runtimes))}."
    assert told.claimed().endswith("and LITERT.")


def test_a_ratio_is_taken_round_by_round(suites: ModuleType) -> None:
    ratios = importlib.import_module("ratios")
    base, own = ratios.ratio_rows(suite(suites), [run([4, 40, 8], [2, 20, 4]), run([6, 6, 6], [3, 3, 3])])
    assert (base.is_base, base.ratio.value, base.ratio.width) == (True, 1.0, 0.0)
    # The machine was ten times as slow in one round: both were.
    assert (own.is_base, own.ratio.value, own.ratio.low, own.ratio.high, own.ratio.rounds) == (False, 2.0, 2.0, 2.0, 6)
    (wide,) = ratios.unsteady(suite(suites), [run([4, 4, 4], [2, 4, 3])])
    assert wide.cell.id == "executorch-image"
    assert wide.ratio.value == pytest.approx(4 / 3)
    assert (wide.ratio.low, wide.ratio.high) == (1.0, 2.0)


def test_a_ratio_is_of_the_inferences_that_took_the_least_where_that_is_told(suites: ModuleType) -> None:
    ratios = importlib.import_module("ratios")
    result = run([4, 9, 5], [4, 4, 30])  # what else ran
    told = [
        cell.model_copy(update={"rounds": tuple(one.model_copy(update={"cpu_least_ns": least}) for one in cell.rounds)})
        for cell, least in zip(result.cells, (3000, 1500), strict=True)
    ]
    _, own = ratios.ratio_rows(suite(suites), [result.model_copy(update={"cells": tuple(told)})])
    assert (own.ratio.value, own.ratio.width) == (2.0, 0.0)


def pair_run(times: dict[str, tuple[list[int], list[int]]], profile: tuple[object, ...] = ()) -> Any:
    """A run of networks in one runtime: nanoseconds of the image and of the text tower by round. SigLIP's files have no
    variant."""
    cells, results = [], []
    for network, towers in times.items():
        for tower, rounds in zip(("image", "text"), towers, strict=True):
            variant = None if network.startswith("siglip") else network
            size = 300 if variant is None else 100
            cells.append(
                SimpleNamespace(variant=variant, tower=tower, runtime="onnxruntime", backend="cpu", bytes=size)
            )
            measured = [SimpleNamespace(cpu_ns=time, cpu_least_ns=time, samples_ns=[time]) for time in rounds]
            results.append(SimpleNamespace(id=network, rounds=measured, profile=profile))
    return SimpleNamespace(job=SimpleNamespace(cells=cells), cells=results)


@pytest.mark.slow
def test_a_pair_is_both_towers_of_a_round_against_those_of_each_peer(suites: ModuleType) -> None:
    pairs = suites.pairs
    times = {
        "mobileclip_s2": ([10, 30], [10, 10]),
        "clip_vit_b16": ([30, 100], [10, 20]),
        "siglip_b16_224": ([40, 100], [20, 60]),
    }
    run = pair_run(times, (OperatorTime(operator="Conv", calls=2, total_ns=1_000_000),))
    rows = {row.network: row for row in pairs.pair_rows("siglip_b16_224", [run])}
    row = rows["mobileclip_s2"]
    assert (row.ratio.low, row.ratio.high, row.ratio.rounds, row.smaller, row.bytes) == (3.0, 4.0, 2, 3.0, 200)
    operations = pairs.multiply_adds()
    assert row.by_operations == operations["siglip_b16_224"] / operations["mobileclip_s2"]
    assert rows["siglip_b16_224"].ratio.value == rows["siglip_b16_224"].smaller == 1.0
    text = "\n".join(pairs.tables([run]))
    assert "Against SigLIP's ViT-B/16" in text
    goal = "| mobileclip_s2 against SigLIP's ViT-B/16 | 3.50 | onnxruntime cpu | 1.97 met, 2.1 met, 2.3 met | 3.00 "
    assert text.splitlines()[2] == f"{goal}(onnxruntime cpu) | 2.1 met |"
    assert "**Not known within 5%**: mobileclip_s2 (onnxruntime cpu) against" in text
    assert "| Conv | 2 | 1.000 | 100.0 |" in text
    with pytest.raises(AssertionError, match="mobileclip_s2 in onnxruntime cpu has"):
        run.job.cells[1].tower = "image"
        pairs.tables([run])


@pytest.mark.slow
def test_siglips_towers_have_the_parameters_that_open_clip_published(suites: ModuleType) -> None:
    subjects, cards = importlib.import_module("subjects"), importlib.import_module("card_tables")
    counts = cards.counted(subjects.siglip_variant())
    assert json.loads(cards.OPERATIONS.read_text(encoding="utf-8"))[subjects.SIGLIP] == counts
    image, text = counts["parameters"]
    folded = 768 * 768  # the projection of the pooling's learned query
    assert (round((image + folded) / 1e6, 2), round(text / 1e6, 2)) == (92.88, 110.27)


@pytest.mark.parametrize(("first", "count"), [([2, 2, 2], 2), ([2, 4, 3], 4)])
def test_a_suite_runs_until_its_ratios_are_known(
    suites: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: list[int], count: int
) -> None:
    measured = []
    elsewhere = run([4, 4, 4], [2, 2, 2])
    here = elsewhere.model_copy(update={"device": describe()})

    def stand_in(request: object, driver: object, options: Any, say: object) -> Any:
        measured.append((options.output.name, options.seed))
        result = run([4, 4, 4], first).model_copy(update={"device": describe()})
        write_document(options.output, result)
        return SimpleNamespace(result=result)

    monkeypatch.setattr(suites, "RESULTS", tmp_path)
    monkeypatch.setattr(suites, "run_benchmark", stand_in)
    monkeypatch.setitem(suites.SUITES, "made", suite(suites))
    # Results of runs before: here, on another processor, and of another suite.
    for name, before in {"made-9.json": here, "made-2.json": elsewhere, "other-1.json": here}.items():
        write_document(tmp_path / name, before)
    suites.measure("made", None, suites.protocol_named("short"), 4)
    written = [f"made-{number}.json" for number in (1, 3, 4, 5)][:count]
    assert measured == list(zip(written, (1, 2, 3, 4), strict=False))
    assert {kind: tuple(runs) for kind, runs in suites.by_processor("made").items()} == {
        suites.processor(here.device): tuple(tmp_path / name for name in written),
        suites.processor(elsewhere.device): (tmp_path / "made-2.json",),
    }
    assert (tmp_path / "other-1.json").exists()


def result(guard: Any, ratios: dict[str, tuple[float, float, float]]) -> Any:
    """A run of one variant in ONNX Runtime: each setting with its ratio and interval."""
    rows = [
        guard.GuardRow(
            variant="nano",
            precision="w8a8",
            target="onnx",
            setting=name,
            ratio=ratio,
            low=low,
            high=high,
            rounds=(low, ratio, high),
        )
        for name, (ratio, low, high) in ratios.items()
    ]
    return guard.GuardResult(device=documents.result().device, rounds=24, rows=tuple(rows))


def test_a_row_of_the_guard_keeps_each_round(guard: Any) -> None:
    ratios = [1.0, 1.1, 0.9, 1.05, 0.95, 1.2]
    row = guard._row(guard.settings()[0], ratios)
    assert (row.rounds, row.ratio) == (tuple(ratios), pytest.approx(1.025))
    assert 0.9 <= row.low < row.ratio < row.high <= 1.2


def test_what_takes_a_fifth_longer_is_named_with_both_intervals(guard: Any) -> None:
    before = result(guard, {"as shipped": (1.2, 1.17, 1.23), "2 threads": (1.0, 0.97, 1.03)})
    now = result(guard, {"as shipped": (1.0, 0.98, 1.02), "2 threads": (1.0, 0.97, 1.03)})
    assert guard.slower(before, now) == [
        "nano w8a8 onnx as shipped: takes 1.20 times as long (1.2 [1.17, 1.23] before, 1 [0.98, 1.02] now)"
    ]


def test_what_the_intervals_explain_and_what_got_faster_is_not_and_a_row_that_is_measured_no_longer_is(
    guard: Any,
) -> None:
    before = result(guard, {"as shipped": (1.2, 1.1, 1.3), "2 threads": (1.0, 0.97, 1.03)})
    now = result(guard, {"as shipped": (1.0, 0.9, 1.1), "2 threads": (1.5, 1.4, 1.6)})
    assert guard.slower(before, now) == []
    now = result(guard, {"as shipped": (1.2, 1.1, 1.3)})
    assert guard.slower(before, now) == ["nano w8a8 onnx 2 threads: measured before, and no longer"]


def test_every_runtime_has_rows_and_what_is_planted_is_in_each_session_of_onnx_runtime(guard: Any) -> None:
    option = ("session.x64quantprecision", "1")
    rows = guard.settings([option])
    assert {one.target for _, _, one in rows} == {"onnx", "executorch", "litert", "coreai", "coreml"}
    assert all((option in one.options) == (one.target == "onnx") for _, _, one in rows)
    names = [(variant, precision, one.target, one.name) for variant, precision, one in rows]
    assert len(set(names)) == len(names)


def test_what_has_no_place_on_this_machine_is_timed_as_verify_runs_it(
    guard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    artifact = SimpleNamespace(runner=lambda: lambda pixels: pixels.sum(axis=(1, 2, 3))[:, None])
    (setting,) = [one for one in guard.SETTINGS if one.target == "coreml"]
    session = guard._opened(get_target("coreml"), artifact, {}, setting)
    session.feed(np.full((1, 3, 2, 2), 255, np.uint8))
    session.run()
    assert session.answer() == [12]
