"""Comparison of a device's answers to golden inputs with the expected ones, for every kind of device.

Missing, too few or inaccurate answers are wrong. The expected answers never leave this computer: a device that had them
could send them back.
"""

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
"""The checkpoint's answers to golden inputs, [N, ...], by the file of these inputs in the job's folder."""


def judge(finished: RoundResult, job: Job, expected: Expected) -> RoundResult:
    """Judges a round of a device by the complete bound that `verify` has for the file.

    The first round must contain answers. If they are missing, wrong or of another number, the round is invalid and
    keeps no samples. Wrong answers of a competitor are only noted.

    Returns:
        The round without its answers, with the verdict on them in place of the device's own.
    """
    cell, raw = job.cell(finished.cell), finished.answers
    words = {
        "error": finished.error and one_line(finished.error),
        "warnings": tuple(one_line(text) for text in finished.warnings[:WARNINGS]),
    }
    finished = finished.model_copy(update={"answers": None, "golden": None} | words)
    if cell.golden is None or finished.round != 0 or finished.status == "failed":
        return finished
    outputs = expected[cell.golden.inputs.file][: job.protocol.golden_inputs or None]
    if raw is None:
        return _invalid(finished, "the device returned no answers to the golden inputs")
    if len(raw) != 4 * outputs.size:
        counts = f"{len(raw):,} bytes of answers to {len(outputs)} golden inputs, expected {4 * outputs.size:,}"
        return _invalid(finished, f"the device returned {counts}")
    actual = np.frombuffer(raw, "<f4").reshape(outputs.shape)
    assert cell.gate is not None
    bound = Bound(cell.gate.metric, cell.gate.bound, cell.gate.snr_db)
    check = Check.of_answers("shipped", cell.tower, outputs, actual, bound, cell.runtime)
    deviation = check.deviation or compare(outputs, actual)
    outcome = GoldenOutcome(
        inputs=len(outputs),
        cosine=deviation.cosine,
        relative=deviation.relative if np.isfinite(deviation.relative) else None,
        passed=check.status == "passed",
    )
    finished = finished.model_copy(update={"golden": outcome})
    if outcome.passed:
        return finished
    missed, cause = f"answers miss the gate {check.describe()}", "another network, other weights, or a fault"
    if not np.isfinite(actual).all():
        missed, cause = "answers are not finite numbers", "a fault of the runtime or the device"
    if cell.competitor:
        warning = f"{missed} ({cause})"
        return finished.model_copy(update={"warnings": (*finished.warnings, warning)})
    return _invalid(finished, missed)


def follows(golden: GoldenOutcome, cell: Cell, protocol: Protocol) -> bool:
    """Returns whether the figures of a stored verdict are consistent with right answers, as far as the figures show.

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
