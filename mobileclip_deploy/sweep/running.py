"""A sweep from its cells to its table; what was done before is kept, and so is every error."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.files import write_whole
from mobileclip_deploy.files.leftovers import clear_leftovers
from mobileclip_deploy.progress import Progress, about
from mobileclip_deploy.scheduling import LOCAL, Failed, Task, require_scheduler, run_tasks
from mobileclip_deploy.sweep.cells import Cell, cell_memory, kept, list_cells, make_cell, record
from mobileclip_deploy.sweep.latency import measure_latency
from mobileclip_deploy.sweep.result import Row, RowError, SweepResult
from mobileclip_deploy.sweep.specification import Specification
from mobileclip_deploy.sweep.table import markdown

__all__ = ["RESULT", "TABLE", "run_sweep"]

RESULT, TABLE = "sweep.json", "sweep.md"


def usual_scheduler() -> str | None:
    """Processes on this machine where Dask is installed; else this process."""
    return LOCAL if importlib.util.find_spec("distributed") is not None else None


def run_sweep(specification: Specification, output: Path, scheduler: str | None, progress: Progress) -> SweepResult:
    """Make every cell that is not made, then measure latencies; the result is written whenever a cell has ended.

    Args:
        scheduler: see `run_tasks`; when None processes on this machine where Dask is installed.

    Raises:
        UsageError: the folder holds something else; see also `list_cells` and `run_tasks`.
        InvalidInput, DependencyMissing, RuntimeFailed: see there.
    """
    scheduler = usual_scheduler() if scheduler is None else scheduler
    require_scheduler(scheduler)
    _check_output(output)
    progress("looking at what there is to do")
    cells, notes = list_cells(specification)
    output.mkdir(parents=True, exist_ok=True)
    clear_leftovers(output)
    rows: dict[str, Row] = {cell.record: kept(cell, output) or cell.row for cell in cells}

    def result() -> SweepResult:
        return SweepResult(
            output=str(output), rows=tuple(rows.values()), notes=tuple(notes), device=specification.device
        )

    def told(task: Task, ended: Row | Failed) -> None:
        cell: Cell = task.arguments[0]
        if isinstance(ended, Failed):
            error = RowError.of(ended.error)
            ended = record(cell, cell.row.model_copy(update={"state": "error", "error": error}), output)
        rows[cell.record] = ended
        _write(result(), output)

    left = [cell for cell in cells if rows[cell.record].state == "left"]
    place = output.absolute()
    tasks = [
        Task(
            f"cell {number} of {len(left)}: {cell.row.name}",
            make_cell,
            (cell, place, scheduler is not None),
            cell_memory(cell),
        )
        for number, cell in enumerate(left, start=1)
    ]
    _write(result(), output)
    run_tasks(tasks, told, scheduler, go_on=True, progress=progress)
    found = result()
    if specification.device is not None:
        found = measure_latency(found, specification, about("latency", progress))
    _write(found, output)
    return found


def _check_output(output: Path) -> None:
    if output.is_file():
        raise UsageError(f"{output} is a file; choose another output with `output`")
    if output.is_dir() and any(output.iterdir()) and not (output / RESULT).is_file():
        raise UsageError(f"{output} exists and holds no sweep; choose another output with `output`")


def _write(result: SweepResult, output: Path) -> None:
    try:
        write_whole(output / RESULT, result.model_dump_json(indent=1) + "\n")
        write_whole(output / TABLE, markdown(result))
    except PermissionError as error:
        raise InvalidInput(f"{output} is not writable ({error.strerror}); choose another output") from error
