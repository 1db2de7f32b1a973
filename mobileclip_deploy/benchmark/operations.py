"""Which operations Core ML means to run elsewhere than on the Neural Engine, and what is known of why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mobileclip_deploy.benchmark.job import Cell
from mobileclip_deploy.benchmark.neural_engine import UNIT
from mobileclip_deploy.benchmark.result import CellResult, PlannedOperation, Result

if TYPE_CHECKING:
    from mobileclip_deploy.inspect.linting import LintReport

__all__ = ["elsewhere", "operations_elsewhere", "planned"]

NAMED = 3
UNITS = {"cpu": "the CPU", "gpu": "the GPU", "unknown": "a unit that Core ML does not tell"}


def operations_elsewhere(result: Result, lints: Sequence[LintReport] = ()) -> tuple[tuple[str, str], ...]:
    """Sentences on the files that were planned for CPU and Neural Engine, each with its file's label: one sentence per
    unit and reason.

    Args:
        lints: of the packages that were measured, for the reasons: what `lint` finds of an operation of the same name.
    """
    return tuple((cell.label, text) for cell, text in elsewhere(result, lints))


def planned(found: CellResult) -> tuple[PlannedOperation, ...]:
    """The plan of the first round that has one."""
    return next((item.operations for item in found.rounds if item.operations), ())


def elsewhere(result: Result, lints: Sequence[LintReport]) -> Iterator[tuple[Cell, str]]:
    """Sentences on the cells for CPU and Neural Engine that have a plan: one per cell, other unit and reason."""
    simulated = "SIMULATED: " if result.device.simulated else ""
    for cell, found in result.pairs():
        if cell.compute_units != "cpuAndNeuralEngine":
            continue
        reasons = _reasons(cell, lints)
        groups: dict[tuple[str, str | None], list[PlannedOperation]] = {}
        for operation in planned(found):
            if operation.unit != UNIT:
                groups.setdefault((operation.unit, reasons.get(operation.name)), []).append(operation)
        for (unit, reason), operations in groups.items():
            yield cell, simulated + _sentence(unit, reason, operations, known=bool(reasons))


def _reasons(cell: Cell, lints: Sequence[LintReport]) -> dict[str, str | None]:
    """Findings on every operation of the cell's package, by its name; empty where the package was not linted."""
    found: dict[str, str | None] = {}
    for report in lints:
        if report.package == PurePosixPath(cell.file).name and report.function == cell.options.get("function", "main"):
            texts = {rule.name: rule.text for rule in report.rules}
            for operation in report.operations:
                rules = dict.fromkeys(one.rule for one in operation.findings if one.level != "advice")
                found[operation.name] = "; ".join(f"{name} ({texts[name]})" for name in rules) or None
    return found


def _sentence(unit: str, reason: str | None, operations: Sequence[PlannedOperation], *, known: bool) -> str:
    count = len(operations)
    names = [f"{one.operator.rpartition('.')[2]} {one.name}" for one in operations[:NAMED]]
    more = f" and {count - NAMED} more" if count > NAMED else ""
    costs = [one.cost for one in operations if one.cost is not None]
    cost = f", {100 * sum(costs):.1f}% of the predicted cost," if costs else ""
    subject = f"{count} operation{'s' if count > 1 else ''} ({', '.join(names)}{more}){cost}"
    verb = f"{'fall' if count > 1 else 'falls'} to {UNITS.get(unit, unit)}"
    if reason is not None:
        return f"{subject} {verb}, because of: {reason}"
    return f"{subject} {verb}; no rule of `lint` says why" if known else f"{subject} {verb}"
