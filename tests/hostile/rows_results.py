"""Results of benchmarks: every number and every text of one, and a page made of it."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmark import documents
from hostile.table import Row, write
from json_files import put

REPORT = ("report", "result.json", "-o", "out.html", "-o", "out.md", "-o", "out.png")
Place = tuple[str | int, ...]
HARM = "a\x1b[2J\x9b\u202e\u2066\n# b\n| c | <b> [d](e) `f` \x00"


@cache
def result() -> dict[str, Any]:
    """A result in which every field that is a number or a text has a value."""
    whole: dict[str, Any] = documents.result().model_dump(mode="json")
    first, second = whole["cells"]
    whole["job"]["cells"][0] |= {
        "accuracy": {"metric": "top1", "dataset": "d", "percent": 60.0},
        "resizing": "passed",
        "compute_units": "cpuOnly",
    }
    browser = {"name": "b", "version": "1", "engine": "e", "user_agent": "u", "secure": True, "isolated": True}
    browser |= {"clock_step_ns": 5000, "cores": 4, "memory_gib": 8.0, "adapter": "a"}
    whole["device"] |= {"browser": browser, "memory_bytes": 10**9, "soc": "s", "build": "b", "instructions": ["avx"]}
    whole["harness"] |= {"affinity": [0], "build": "h", "quality_of_service": "q"}
    work = {"arithmetic_operations": 10**8, "moved_bytes": 10**6, "kind": "1x1", "arithmetic": "float32"}
    core = {"core": 0, "inferences": 3, "running_khz": 10**6, "allowed_khz": 10**6, "maximum_khz": 10**6}
    times = ("fetch_ns", "compile_ns", "specialization_ns", "load_again_ns", "first_inference_ns", "cpu_least_ns")
    first["rounds"][0] |= dict.fromkeys(times, 3) | {
        "profile": [{"operator": "Conv", "calls": 2, "total_ns": 10**6, "work": work}],
        "placement": [{"unit": "CPU", "operations": 3, "cost_share": 0.5}],
        "operations": [{"name": "n", "operator": "o", "unit": "CPU", "cost": 0.5}],
        "cores": [core],
        "warnings": ["w: w"],
        "peak_memory_bytes": 10**8,
        "inferences_per_sample": 1,
        "threads_used": 1,
    }
    # A device of an earlier version summarized a cell itself.
    second |= {"status": "done", "error": "e", "warnings": ["w"], "summary": copy.deepcopy(first["summary"])}
    measured = {"run_id": whole["job"]["run_id"], "cell": second["id"], "round": 0, "status": "done"}
    second["rounds"] = [measured | {"samples_ns": first["rounds"][0]["samples_ns"]}]
    power = {"seconds": 1.0, "cpu_milliwatts": 1.0, "gpu_milliwatts": 1.0, "neural_engine_milliwatts": 1.0}
    whole["environment"]["power"] = power
    for name in ("before", "after"):
        snapshot = whole["environment"][name]
        snapshot |= {"temperature_celsius": 30.0, "battery_celsius": 30.0, "load_average_1min": 0.5, "governor": "g"}
    return whole


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """What stands in a document, each with where; of a list the first."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, (*place, name))
    elif isinstance(value, list):
        for number, one in enumerate(value[: 1 if place != ("cells",) else None]):
            yield from leaves(one, (*place, number))
    else:
        yield place, value


def holding(place: Place, *texts: str) -> Callable[[Path], object]:
    """Writes the result with these JSON texts as what stands at a place, the last one in `rounds` too."""

    def make(folder: Path) -> None:
        whole = copy.deepcopy(result())
        put(whole, place, "HERE")
        (folder / "result.json").write_text(json.dumps(whole).replace('"HERE"', *texts), encoding="utf-8")

    return make


def row(kind: str, place: Place, what: str, text: str, line: str, code: int = 2) -> Row:
    return Row(kind, f"{'.'.join(map(str, place))}, {what}", holding(place, text), REPORT, line, code=code)


def numbers() -> Iterator[Row]:
    """Each number as a text, and as one that JSON does not know, that is too large, or that is below all bounds."""
    odd = {"NaN": "NaN", "1e400": "1e400", "a truth": "true", "400 digits": "9" * 400}
    for index, (place, value) in enumerate(leaves(result())):
        if isinstance(value, int | float) and not isinstance(value, bool) and name_of(place) != "schema_version":
            yield row("result's number", place, "a text", '"1"', name_of(place))
            what, text = list(odd.items())[index % len(odd)]
            yield row("result's number", place, what, text, name_of(place))


NOTHING, BELOW, LARGE = ("0", "0"), ("negative", "-1"), ("1e308", "1e308")
SUMMARY, FIRST = ("cells", 1, "summary"), ("cells", 0, "rounds", 0)
BOUNDS: dict[Place, tuple[tuple[str, str], ...]] = {
    **{(*SUMMARY, f"{name}_ns"): (NOTHING, BELOW, LARGE) for name in ("median", "p90", "p99", "mean")},
    **{(*SUMMARY, "median_interval_ns", name): (NOTHING,) for name in ("low", "high")},
    ("environment", "before", "unix_seconds"): (BELOW, LARGE, ("year 285,000,000", str(2**53 - 1))),
    ("job", "cells", 0, "threads"): (NOTHING,),
    ("job", "protocol", "trim_fraction"): (BELOW, ("half", "0.5")),
    (*FIRST, "samples_ns", 0): (BELOW,),
    (*FIRST, "load_first_ns"): (BELOW,),
    ("device", "cores"): (NOTHING,),
}
FINE: dict[Place, tuple[str, str]] = {
    (*FIRST, "samples_ns", 0): ("104 days", str(2**53 - 1)),
    (*FIRST, "cpu_ns"): NOTHING,
    (*FIRST, "profile", 0, "total_ns"): NOTHING,
    (*FIRST, "profile", 0, "work", "moved_bytes"): NOTHING,
    ("environment", "before", "battery_percent"): LARGE,
    ("environment", "before", "load_average_1min"): ("-1e308", "-1e308"),
}


def name_of(place: Place) -> str:
    """How a refusal calls it: by its name, of a list's item by that of the list."""
    return next(step for step in reversed(place) if isinstance(step, str))


def texts() -> Iterator[Row]:
    """Each text with what a terminal, Markdown and HTML would take for something else. Where it is an identifier or
    one of a few words, it is refused."""
    refused = ("run_id", "id", "cell", "sha256", "file", "dtype", "status", "kind", "tower", "statistic", "metric")
    refused += ("runtime", "compute_units", "arithmetic", "thermal_state", "c_library")
    for place, value in leaves(result()):
        if not isinstance(value, str):
            continue
        free = place[-2:] in (("work", "kind"), ("accuracy", "metric"))
        known = place == ("job", "protocol", "name") or (name_of(place) in refused and not free)
        line, code = (name_of(place), 2) if known else ("out.md", 0)
        yield row("result's text", place, "harm", json.dumps(HARM), line, code)
    yield row("result's text", ("device", "model"), "half a character", '"\\ud800"', "invalid JSON")


ROWS = [
    *numbers(),
    *(
        row("result's bound", place, what, text, name_of(place))
        for place, cases in BOUNDS.items()
        for what, text in cases
    ),
    *(row("result's odd number", place, what, text, "out.md", 0) for place, (what, text) in FINE.items()),
    *(
        row("result's bound", ("job", "cells", 0, "accuracy", "percent"), what, text, "onnx-image: an accuracy of")
        for what, text in (BELOW, LARGE)
    ),
    row("result's odd number", (*FIRST, "samples_ns", 0), "0", "0", "nothing to draw"),
    *texts(),
    Row(
        "result",
        "120 MB of lists",
        write("result.json", lambda: "[" + "[],[[]]," * 15_000_000 + "0]"),
        REPORT,
        "more items",
        alone=True,
    ),
]
