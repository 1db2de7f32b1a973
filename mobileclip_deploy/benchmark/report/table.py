"""Rows of a report's tables: every cell of every result, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.neural_engine import neural_engine_use, operations_elsewhere, planned_placement
from mobileclip_deploy.benchmark.report.points import milliseconds
from mobileclip_deploy.benchmark.result import Browser, CellResult, Result, Snapshot

if TYPE_CHECKING:
    from mobileclip_deploy.verify.inspect.linting import LintReport

SHOWN_LINES = 8
"""Number of lines under a name that a card shows before it is unfolded."""


@dataclass(frozen=True)
class Field:
    """A table's cell. `value` is the number or word to sort by; None sorts last."""

    text: str
    value: float | str | None


def columns(result: Result) -> tuple[str, ...]:
    """Returns the names of a result's columns. Names of measured columns end in their unit.

    Important columns come first, since a screen shows about eleven.
    """
    return tuple(_row(result, *result.pairs()[0]))


def card(result: Result, row: Sequence[Field]) -> tuple[int, ...]:
    """Returns the line in a card of each field of a row. A card replaces a row on a narrow screen.

    Line 0 has the model's name. Then come the latency, status, answers and warnings, then all other fields. An empty
    field has no line; its number is 0.
    """
    names = columns(result)
    statistic = f"{result.job.protocol.statistic.replace('_', ' ')}, ms"
    first = ("model", statistic, "95% of median, ms", "status", "answers", "warnings", "tower", "runtime", "place")
    order = sorted(range(len(names)), key=lambda at: first.index(names[at]) if names[at] in first else len(first))
    lines = iter(range(len(names)))
    places = {at: next(lines) for at in order if row[at].text}
    return tuple(places.get(at, 0) for at in range(len(names)))


def rows(result: Result) -> tuple[tuple[Field, ...], ...]:
    """Returns one row per cell, in the order of the job."""
    return tuple(tuple(_row(result, cell, outcome).values()) for cell, outcome in result.pairs())


def _row(result: Result, cell: Cell, found: CellResult) -> dict[str, Field]:
    """Returns fields by the names of their columns. All cells of a result have the same columns."""
    summary = found.summary if found.status == "done" else None
    interval = summary.median_interval_ns if summary else None
    statistic = result.job.protocol.statistic
    words = {
        "model": cell.label.removesuffix(f" {cell.tower}") + (" (competitor)" if cell.competitor else ""),
        "tower": cell.tower,
        "precision": cell.precision or "",
        "runtime": cell.runtime,
        "place": " ".join(part for part in (cell.backend, cell.compute_units) if part),
    }
    span = f"{_number(interval.low / 1e6)} to {_number(interval.high / 1e6)}" if interval else ""
    warnings = ", ".join(dict.fromkeys(text.partition(":")[0] for text in found.warnings))
    first = next((item for item in found.rounds if item.round == 0), None)
    times: dict[str, float | None] = {
        "median of rounds, ms": summary.rounds_median_ns if summary else None,
        "p90, ms": summary.p90_ns if summary else None,
        "p99, ms": summary.p99_ns if summary else None,
    }
    if result.device.browser:  # a page cannot read its CPU time; fetching and compiling are part of a user's wait
        times["fetch, ms"] = first.fetch_ns if first else None
        times["compile, ms"] = first.compile_ns if first else None
    else:
        times["CPU, ms"] = summary.cpu_ns if summary else None
        if any(other.specialization_ns is not None for other in result.cells):  # some runtimes measure it apart
            times["specialize, ms"] = found.specialization_ns
    times |= {"load, ms": found.load_first_ns, "again, ms": found.load_again_ns, "first, ms": found.first_inference_ns}
    return {
        **{name: Field(word, word) for name, word in words.items()},
        "threads": Field(str(cell.threads), cell.threads),
        f"{statistic.replace('_', ' ')}, ms": _figure(milliseconds(found, statistic)),
        "95% of median, ms": Field(span, interval.low if interval else None),
        "status": Field(found.status, found.status),
        "answers": _answers(cell, found, result.self_reported),
        "warnings": Field(warnings, float(len(found.warnings))),
        **{name: _figure(None if time is None else time / 1e6) for name, time in times.items()},
        "last/first": _figure(summary.last_over_first if summary else None),
        "memory, MB": _figure(None if found.peak_memory_bytes is None else found.peak_memory_bytes / 1e6),
        "file, MB": _figure(cell.bytes / 1e6),
    }


def remarks(result: Result, lints: Sequence[LintReport] = ()) -> tuple[tuple[str, str], ...]:
    """Returns (label, text) of all errors and warnings of cells, and of evidence of the Neural Engine's use.

    Args:
        lints: lint reports of packages that were measured.
    """
    evidence = tuple((use.label, use.text) for use in neural_engine_use(result))
    return (
        planned_placement(result)
        + evidence
        + operations_elsewhere(result, lints)
        + tuple(
            (f"{cell.label}, {cell.runtime} {cell.backend or cell.compute_units or ''}".strip(), text)
            for cell, outcome in result.pairs()
            for text in (
                *((f"{outcome.status}: {outcome.error}",) if outcome.error else ()),
                *outcome.warnings,
            )
        )
    )


def conditions(result: Result) -> tuple[tuple[str, str], ...]:
    """Returns the conditions of a run, as (name, text)."""
    device, protocol, harness = result.device, result.job.protocol, result.harness
    at_least = f"{protocol.rounds} rounds of at least {protocol.iterations_per_round} inferences"
    versions = ", ".join(f"{name} {version}" for name, version in result.runtimes.items())
    environment = result.environment
    parts = (device.soc, device.architecture, f"{device.cores} cores", *device.instructions)
    memory = f"{device.memory_bytes / 1e9:.1f} GB" if device.memory_bytes is not None else None
    entries = (
        ("run", result.run_id),
        ("device", f"{device.name}: {device.model}"),
        ("processor", " ".join(part for part in parts if part)),
        ("memory", memory),
        ("system", " ".join(part for part in (device.os, device.os_version, device.build) if part)),
        ("harness", " ".join(part for part in (harness.name, harness.version, harness.build) if part)),
        ("C library", harness.c_library),
        ("browser", _browser(device.browser) if device.browser else None),
        ("pinned to cores", ", ".join(str(core) for core in harness.affinity) or None),
        ("quality of service", harness.quality_of_service),
        ("runtimes", versions),
        (
            "protocol",
            f"{protocol.name}: {at_least} and {protocol.seconds_per_round:g} s, reported: {protocol.statistic}",
        ),
        ("order shuffled with seed", str(result.job.seed)),
        ("before", _state(environment.before)),
        ("after", _state(environment.after) if environment.after else "never reached"),
    )
    # Once for each file, even if it was measured at several places or with several numbers of threads.
    resizing = {f"resizing inside {cell.label}": cell.resizing for cell in result.job.cells}
    return tuple((name, value) for name, value in (*entries, *resizing.items()) if value)


def _browser(browser: Browser) -> str:
    """Returns a browser's name, and the properties that decide its threads, its clock and its GPU."""
    words = (("secure", browser.secure), ("isolated", browser.isolated))
    page = " and ".join(word if holds else f"not {word}" for word, holds in words)
    half = "with" if browser.shader_f16 else "without"
    gpu = f"WebGPU by {browser.adapter}, {half} shader-f16" if browser.adapter else "no WebGPU"
    clock = f"clock in {browser.clock_step_ns / 1e3:g} us"
    return f"{browser.name} {browser.version} ({browser.engine}), {page}, {clock}, {gpu}"


def _state(snapshot: Snapshot) -> str:
    import datetime

    when = datetime.datetime.fromtimestamp(snapshot.unix_seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    values = snapshot.model_dump(exclude={"unix_seconds"}, exclude_none=True)
    return ", ".join([when, *(f"{name.replace('_', ' ')} {value}" for name, value in values.items())])


def _answers(cell: Cell, found: CellResult, self_reported: bool) -> Field:
    golden = found.golden
    if self_reported or (golden is not None and cell.gate is None):  # no data to compute the verdict
        return Field("self-reported", None)
    if golden is None:
        return Field("not checked", None)
    if cell.competitor:
        return Field(f"cosine {golden.cosine:.6f} over {golden.inputs}", golden.cosine)
    verdict = "right" if golden.passed else "WRONG"
    return Field(f"{verdict}, cosine {golden.cosine:.6f} over {golden.inputs}", golden.cosine)


def _figure(value: float | None) -> Field:
    return Field("" if value is None else _number(value), value)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
