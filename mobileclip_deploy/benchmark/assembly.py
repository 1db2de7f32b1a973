"""Assembly of finished rounds into a result, with summaries and warnings."""

from mobileclip_deploy.artifacts.towers.arithmetic import tower_arithmetic
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.benchmark.answers import follows
from mobileclip_deploy.benchmark.job import Cell, Protocol
from mobileclip_deploy.benchmark.judgement import cell_warnings, impossible, marked
from mobileclip_deploy.benchmark.result import CellResult, Result, RoundResult, Run
from mobileclip_deploy.benchmark.statistics import summarize
from mobileclip_deploy.errors import UsageError

OWN = (
    *("load_first_ns", "load_again_ns", "first_inference_ns", "peak_memory_bytes"),
    *("golden", "placement", "profile", "arithmetic_operations"),
)
"""Fields that a device of an earlier version may have reported for a whole cell instead of each round."""


def assemble(run: Run, self_reported: bool = False) -> Result:
    """Returns the result of a run, finished or not. Cells with missing rounds are skipped, and say so.

    Args:
        self_reported: the answers were not compared here. Otherwise there are no figures without a comparison.
    """
    by_cell: dict[str, list[RoundResult]] = {cell.id: [] for cell in run.job.cells}
    for item in sorted(run.rounds, key=lambda item: item.round):
        by_cell[item.cell].append(item)
    cells = tuple(_cell_result(cell, tuple(by_cell[cell.id]), run, self_reported) for cell in run.job.cells)
    return Result.of(run, cells, self_reported)


def complete(result: Result) -> Result:
    """Returns a stored result with every summary, warning and verdict computed from its rounds and its job's gates.

    A cell without rounds keeps its own status, error and warnings.
    """
    cells = []
    for cell, stored in result.pairs():
        if not stored.rounds:
            cells.append(stored)
            continue
        rounds = tuple(_with_verdict(item, cell, result.job.protocol) for item in _with_golden(stored))
        computed = _cell_result(cell, rounds, result, result.self_reported)
        changes = {name: getattr(stored, name) for name in OWN if not getattr(computed, name)}
        changes["warnings"] = tuple(dict.fromkeys((*stored.warnings, *computed.warnings)))
        cells.append(with_fields(computed, **changes))
    return result.model_copy(update={"cells": tuple(cells)})


def arithmetic_of(cell: Cell) -> int | None:
    """Returns the number of arithmetic operations of one inference of a cell.

    It is that of the network with all branches folded, also for a cell of torch that runs it unfolded. None if the
    cell's variant is unknown on this machine, or torch is not installed, which counts.
    """
    if cell.variant is None:
        return None
    shape = cell.input.shape
    length = shape[-1] if cell.tower == "text" else min(shape[-2:]) if len(shape) == 4 else shape[0]
    try:
        return tower_arithmetic(cell.variant, cell.tower, length)
    except UsageError:  # the card is missing, or cannot have this size
        return None


def _with_golden(found: CellResult) -> tuple[RoundResult, ...]:
    """Returns the rounds of a stored cell. An outcome reported for the whole cell, or a bad one, is assigned to the
    first round."""
    per_round = any(item.golden for item in found.rounds)
    if found.golden is None or (per_round and found.golden.passed):
        return found.rounds
    return (found.rounds[0].model_copy(update={"golden": found.golden}), *found.rounds[1:])


def _with_verdict(finished: RoundResult, cell: Cell, protocol: Protocol) -> RoundResult:
    """Returns the round; its answers count as wrong if the recorded figures miss the gate or contradict each other."""
    golden = finished.golden
    if golden is None or not golden.passed or follows(golden, cell, protocol):
        return finished
    return finished.model_copy(update={"golden": golden.model_copy(update={"passed": False})})


def _cell_result(cell: Cell, rounds: tuple[RoundResult, ...], whole: Run | Result, self_reported: bool) -> CellResult:
    protocol, fixed = whole.job.protocol, whole.environment.before.fixed_performance_mode
    rounds = tuple(marked(_condemned(item, cell), whole.harness.affinity, fixed) for item in rounds)
    checked = cell.golden is None or self_reported or any(item.golden for item in rounds)
    failed = next((item for item in rounds if item.status != "done"), None)
    all_run = len(rounds) == protocol.rounds
    status = failed.status if failed else "done" if all_run else "skipped"
    error = failed.error if failed else None if all_run else f"{len(rounds)} of {protocol.rounds} rounds were run"
    timed = [item for item in rounds if item.samples_ns]
    operations = arithmetic_of(cell) if timed else None
    summary = None
    if timed and checked and status in ("done", "skipped"):
        samples, cpu = [item.samples_ns for item in timed], [item.cpu_ns for item in timed]
        summary = summarize(samples, cpu, protocol.trim_fraction)
    first = next((item for item in rounds if item.round == 0), None)
    memory = [item.peak_memory_bytes for item in rounds if item.peak_memory_bytes is not None]
    warnings = dict.fromkeys(text for item in rounds for text in item.warnings)
    judged = (*impossible(cell, summary, operations), *cell_warnings(cell, summary, rounds)) if summary else ()
    return CellResult(
        id=cell.id,
        status=status,
        error=error,
        specialization_ns=first.specialization_ns if first else None,
        load_first_ns=first.load_first_ns if first else None,
        load_again_ns=first.load_again_ns if first else None,
        first_inference_ns=first.first_inference_ns if first else None,
        peak_memory_bytes=max(memory, default=None),
        golden=next((item.golden for item in rounds if item.golden), None),
        placement=next((item.placement for item in rounds if item.placement), ()),
        profile=next((item.profile for item in rounds if item.profile), ()),
        arithmetic_operations=operations,
        summary=summary,
        warnings=(*warnings, *judged),
        rounds=rounds,
    )


def _condemned(finished: RoundResult, cell: Cell) -> RoundResult:
    """Returns a round without its answers, which only `answers.judge` needs. The round is invalid if its answers are
    reported as wrong. It is failed if a sample took no time, since zero cannot be a divisor or a point in a chart."""
    finished = finished.model_copy(update={"answers": None})
    if finished.status == "done" and 0 in finished.samples_ns:
        message = f"sample {finished.samples_ns.index(0)} took 0 ns, which is impossible"
        return finished.model_copy(update={"status": "failed", "error": message})
    if finished.status != "done" or finished.golden is None or finished.golden.passed or cell.competitor:
        return finished
    message = f"answers were wrong: cosine {finished.golden.cosine:.4f}"
    return finished.model_copy(update={"status": "invalid", "error": message, "samples_ns": (), "cpu_ns": None})
