"""Answers to golden inputs, judged here for every kind of device: none, too few or too far off is a wrong answer."""

# Light: the process whose memory is measured imports this with the documents.
from __future__ import annotations

from mobileclip_deploy.benchmark.job import Cell, Gate, Golden, Protocol
from mobileclip_deploy.benchmark.result import GoldenOutcome, RoundResult

__all__ = ["judge"]

# A cosine of float32 embeddings may come out this much above 1.
ROUNDING = 1e-5


def judge(finished: RoundResult, cell: Cell, protocol: Protocol) -> RoundResult:
    """A device's round by the job's gate: no device is believed, and no answer is a wrong answer.

    The round that must bring answers is the first one. A round that brings none then, answers to too few inputs, or
    figures beyond the gate is invalid and keeps no samples; a competitor's that miss the gate are noted instead.
    Judging twice changes nothing.
    """
    found = finished.golden
    if cell.golden is None or (found is None and (finished.round != 0 or finished.status != "done")):
        return finished
    reason = _missing(found, cell.golden, protocol)
    missed = reason is None and _misses(found, cell.gate)
    if found is not None:
        finished = finished.model_copy(update={"golden": found.model_copy(update={"passed": not (reason or missed)})})
    if finished.status != "done" or not (reason or missed):
        return finished
    if missed and cell.competitor:
        warning = f"{missed} (another network, other weights, or a fault)"
        return finished.model_copy(update={"warnings": tuple(dict.fromkeys((*finished.warnings, warning)))})
    changes = {"status": "invalid", "error": reason or missed, "samples_ns": (), "cpu_ns": None}
    return finished.model_copy(update=changes)


def _missing(found: GoldenOutcome | None, golden: Golden, protocol: Protocol) -> str | None:
    """What is wrong with a round that did not bring what it must."""
    if found is None:
        return "the device brought no answers to the golden inputs"
    available = golden.inputs.shape[0]
    asked = min(protocol.golden_inputs or available, available)
    if found.inputs < asked:
        return f"the device answered {found.inputs} of {asked} golden inputs"
    return None


def _misses(found: GoldenOutcome | None, gate: Gate | None) -> str | None:
    """By how much answers miss the gate. What is no number, or no number that a comparison can give, misses it."""
    assert found is not None
    assert gate is not None
    possible = found.cosine <= 1 + ROUNDING and (found.relative is None or found.relative >= 0)
    value = found.cosine if gate.metric == "cosine" else found.relative
    within = value is not None and (value >= gate.bound if gate.metric == "cosine" else value <= gate.bound)
    relative = "" if found.relative is None else f", relative {found.relative:.1e}"
    text = f"answers miss the gate {gate.metric} {gate.bound:g}: cosine {found.cosine:.4f}{relative}"
    if not (possible and within):
        return text
    return None if found.passed else f"{text}, and the device itself calls them wrong"
