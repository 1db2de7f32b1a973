"""Evidence that a model runs on the Neural Engine, and the operations that Core ML plans for other units.

No API reports the unit of an inference to an app; Instruments does (docs/devices.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.result import CellResult, PlannedOperation, Result

if TYPE_CHECKING:
    from mobileclip_deploy.verify.inspect.linting import LintReport

UNIT = "neuralEngine"
MOST, FEW = 0.9, 0.1
FASTER, NO_FASTER = 1.5, 1.1
NAMED = 3
UNITS = {"cpu": "the CPU", "gpu": "the GPU", "unknown": "a unit that Core ML does not report"}


@dataclass(frozen=True)
class NeuralEngineUse:
    """Figures of one file, measured with different compute units of Apple; `verdict` claims no more than the figures
    show.

    Attributes:
        share: share of the Neural Engine in the predicted cost, or in the operations if Core ML predicts no cost; None
            without a plan (Core ML before iOS 17.4, Core AI always).
        by_cost: True if `share` is of the cost.
        speedup: median with the CPU alone, divided by the median with `units`, which include the Neural Engine.
    """

    label: str
    share: float | None
    operations: tuple[int, int] | None
    speedup: float | None
    by_cost: bool
    simulated: bool
    units: str = "cpuAndNeuralEngine"

    @property
    def verdict(self) -> str:
        """Conclusion, worded as evidence."""
        if self.simulated:
            return "SIMULATED, so no evidence of anything"
        if self.share is None or self.speedup is None:
            return "no verdict: the plan or one of the medians is missing"
        if self.share >= MOST and self.speedup >= FASTER:
            return "evidence that it runs on the Neural Engine"
        if self.share <= FEW or self.speedup <= NO_FASTER:
            return "evidence that it does not run on the Neural Engine, or gains nothing there"
        return "mixed evidence: a part of it may run on the Neural Engine"

    @property
    def text(self) -> str:
        """The figures, then the verdict."""
        phrases = []
        if self.share is not None and self.operations is not None:
            phrases.append(
                f"Core ML plans {100 * self.share:.0f}% of the {'cost' if self.by_cost else 'operations'} "
                f"({self.operations[0]} of {self.operations[1]} operations) for the Neural Engine"
            )
        if self.speedup is not None:
            phrases.append(f"{self.units} is {self.speedup:.2f} times as fast as cpuOnly")
        return f"Neural Engine: {', '.join(phrases) or 'nothing was measured'}: {self.verdict}"


def neural_engine_use(result: Result) -> tuple[NeuralEngineUse, ...]:
    """Returns the evidence for every file that was measured with and without the Neural Engine."""
    return tuple(
        _evidence(sweep[units], sweep.get("cpuOnly"), result.device.simulated, units)
        for sweep in _sweeps(result)
        for units in ("cpuAndNeuralEngine", "preferNeuralEngine")
        if units in sweep
    )


def planned_placement(result: Result) -> tuple[tuple[str, str], ...]:
    """Returns the placement that Core ML plans for each file: its label, and operations and share of cost by unit, for
    each set of compute units."""
    lines, mark = [], " (SIMULATED)" if result.device.simulated else ""
    for sweep in _sweeps(result):
        planned = [f"{units}: {_units(measured)}" for units, (_, measured) in sweep.items() if measured.placement]
        label = next(iter(sweep.values()))[0].label
        lines += [(label, f"planned placement{mark}: {'; '.join(planned)}")] if planned else []
    return tuple(lines)


def _units(found: CellResult) -> str:
    return ", ".join(
        f"{place.unit} {place.operations}" + ("" if place.cost_share is None else f" ({100 * place.cost_share:.0f}%)")
        for place in found.placement
    )


def _sweeps(result: Result) -> tuple[dict[str, tuple[Cell, CellResult]], ...]:
    """Returns measurements by set of compute units, one mapping per tower of a file."""
    sweeps: dict[tuple[str, str], dict[str, tuple[Cell, CellResult]]] = {}
    for cell, measured in result.pairs():
        if cell.compute_units is not None:
            sweeps.setdefault((cell.file, cell.tower), {})[cell.compute_units] = cell, measured
    return tuple(sweeps.values())


def _evidence(
    engine: tuple[Cell, CellResult], cpu: tuple[Cell, CellResult] | None, simulated: bool, units: str
) -> NeuralEngineUse:
    cell, measured = engine
    total = sum(place.operations for place in measured.placement)
    there = next((place for place in measured.placement if place.unit == UNIT), None)
    operations = there.operations if there else 0
    by_cost = any(place.cost_share is not None for place in measured.placement)
    share = (there.cost_share if there else 0.0) if by_cost else operations / total if total else None
    fast, slow = measured.summary, cpu[1].summary if cpu else None
    return NeuralEngineUse(
        label=cell.label,
        share=share,
        operations=(operations, total) if total else None,
        speedup=slow.median_ns / fast.median_ns if fast and slow and fast.median_ns else None,
        by_cost=by_cost,
        simulated=simulated,
        units=units,
    )


def operations_elsewhere(result: Result, lints: Sequence[LintReport] = ()) -> tuple[tuple[str, str], ...]:
    """Returns sentences on the files that were planned for CPU and Neural Engine, with the file's label: one per unit
    and reason.

    Args:
        lints: reports on the measured packages. The findings of `lint` on an operation of the same name give the
            reasons.
    """
    simulated, sentences = "SIMULATED: " if result.device.simulated else "", []
    for cell, measured in result.pairs():
        if cell.compute_units != "cpuAndNeuralEngine":
            continue
        reasons = _reasons(cell, lints)
        groups: dict[tuple[str, str | None], list[PlannedOperation]] = {}
        for operation in next((item.operations for item in measured.rounds if item.operations), ()):
            if operation.unit != UNIT:
                groups.setdefault((operation.unit, reasons.get(operation.name)), []).append(operation)
        for (unit, reason), operations in groups.items():
            sentences.append((cell.label, simulated + _sentence(unit, reason, operations, known=bool(reasons))))
    return tuple(sentences)


def _reasons(cell: Cell, lints: Sequence[LintReport]) -> dict[str, str | None]:
    """Returns findings on every operation of the cell's package, by its name; empty if the package was not linted."""
    reasons: dict[str, str | None] = {}
    for report in lints:
        if report.package == PurePosixPath(cell.file).name and report.function == cell.options.get("function", "main"):
            texts = {rule.name: rule.text for rule in report.rules}
            for operation in report.operations:
                rules = dict.fromkeys(finding.rule for finding in operation.findings if finding.level != "advice")
                reasons[operation.name] = "; ".join(f"{name} ({texts[name]})" for name in rules) or None
    return reasons


def _sentence(unit: str, reason: str | None, operations: Sequence[PlannedOperation], *, known: bool) -> str:
    count = len(operations)
    names = [f"{operation.operator.rpartition('.')[2]} {operation.name}" for operation in operations[:NAMED]]
    more = f" and {count - NAMED} more" if count > NAMED else ""
    costs = [operation.cost for operation in operations if operation.cost is not None]
    cost = f", {100 * sum(costs):.1f}% of the predicted cost," if costs else ""
    subject = f"{count} operation{'s' if count > 1 else ''} ({', '.join(names)}{more}){cost}"
    verb = f"{'fall' if count > 1 else 'falls'} to {UNITS.get(unit, unit)}"
    if reason is not None:
        return f"{subject} {verb}, because of: {reason}"
    return f"{subject} {verb}; no rule of `lint` explains it" if known else f"{subject} {verb}"
