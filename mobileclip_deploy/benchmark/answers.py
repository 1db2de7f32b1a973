"""Answers to golden inputs, judged here for every kind of device: none, too few or too far off is a wrong answer.

What they should be never leaves this computer: a device that knew it could send it back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.bounded import one_line
from mobileclip_deploy.benchmark.job import Cell, Job, Protocol
from mobileclip_deploy.benchmark.result import GoldenOutcome, RoundResult
from mobileclip_deploy.parity import Bound, Check, compare

WARNINGS = 20
ROUNDING = 1e-6

Expected = Mapping[str, npt.NDArray[np.float32]]
"""What the checkpoint answers to golden inputs, [N, ...], by the file of these inputs in the job's folder."""


def judge(finished: RoundResult, job: Job, expected: Expected) -> RoundResult:
    """A device's round by the whole bound that `verify` has for the file.

    The round that must bring answers is the first one. One that brings none then, another number of them than was
    asked for, or wrong ones, is invalid and keeps no samples; a competitor's that are wrong are noted instead.

    Returns:
        The round without its answers, and with the verdict on them in place of the device's own.
    """
    cell, raw = job.cell(finished.cell), finished.answers
    words = {
        "error": finished.error and one_line(finished.error),
        "warnings": tuple(one_line(text) for text in finished.warnings[:WARNINGS]),
    }
    finished = finished.model_copy(update={"answers": None, "golden": None} | words)
    if cell.golden is None or finished.round != 0 or finished.status == "failed":
        return finished
    wanted = expected[cell.golden.inputs.file][: job.protocol.golden_inputs or None]
    if raw is None:
        return _invalid(finished, "the device brought no answers to the golden inputs")
    if len(raw) != 4 * wanted.size:
        told = f"{len(raw):,} bytes of answers to {len(wanted)} golden inputs, which have {4 * wanted.size:,}"
        return _invalid(finished, f"the device brought {told}")
    found = np.frombuffer(raw, "<f4").reshape(wanted.shape)
    assert cell.gate is not None
    bound = Bound(cell.gate.metric, cell.gate.bound, cell.gate.snr_db)
    check = Check.of_answers("shipped", cell.tower, wanted, found, bound, cell.runtime)
    deviation = check.deviation or compare(wanted, found)
    outcome = GoldenOutcome(
        inputs=len(wanted),
        cosine=deviation.cosine,
        relative=deviation.relative if np.isfinite(deviation.relative) else None,
        passed=check.status == "passed",
    )
    finished = finished.model_copy(update={"golden": outcome})
    if outcome.passed:
        return finished
    missed = f"answers miss the gate {check.describe()}"
    if cell.competitor:
        warning = f"{missed} (another network, other weights, or a fault)"
        return finished.model_copy(update={"warnings": (*finished.warnings, warning)})
    return _invalid(finished, missed)


def follows(golden: GoldenOutcome, cell: Cell, protocol: Protocol) -> bool:
    """Whether right answers follow from the figures of a stored verdict, as far as these tell.

    A vector that is off by r of its length is at a cosine of at least sqrt(1 - r^2). Of probabilities of n labels, r is
    at most n times the largest difference, since a row has a length of at least 1 / sqrt(n).
    """
    if golden.relative is None:
        return False
    if golden.cosine < math.sqrt(max(0.0, 1 - golden.relative**2)) - ROUNDING and golden.relative < 1:
        return False
    if cell.golden is None or cell.gate is None:
        return True
    stored = cell.golden.inputs.shape[0]
    if golden.inputs != min(stored, protocol.golden_inputs or stored):
        return False
    if cell.gate.metric == "cosine":
        return golden.cosine >= cell.gate.bound
    return golden.relative <= cell.gate.bound * (cell.output.shape[-1] if cell.gate.metric == "probabilities" else 1)


def _invalid(finished: RoundResult, reason: str) -> RoundResult:
    changes = {"status": "invalid", "error": reason, "samples_ns": (), "cpu_ns": None}
    return finished.model_copy(update=changes)
