"""`sweep`: many bundles from one file, and one table of them. Earlier rows are reused, and errors are recorded."""

import importlib.util
from pathlib import Path

from mobileclip_deploy.base.files import StrPath, write_whole
from mobileclip_deploy.base.files.names import RowError
from mobileclip_deploy.base.files.staging import LOCK, clear_leftovers
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, about, silent
from mobileclip_deploy.base.scheduling import LOCAL, Failed, Task, require_scheduler, require_tls, run_tasks
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.benchmark.job import get_protocol
from mobileclip_deploy.benchmark.sweep.cells import (
    SweepCell,
    cell_memory,
    kept,
    list_cells,
    make_cell,
    record,
    with_contents,
)
from mobileclip_deploy.benchmark.sweep.latency import measure_latency
from mobileclip_deploy.benchmark.sweep.result import Row, SweepResult, markdown
from mobileclip_deploy.benchmark.sweep.specification import Specification, read_specification
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.dataset_files import read_dataset, require_discriminating

__all__ = ["RESULT", "TABLE", "SweepResult", "sweep"]

RESULT, TABLE = "sweep.json", "sweep.md"


def sweep(
    specification: StrPath,
    output: StrPath,
    *,
    scheduler: str | None = None,
    insecure_scheduler: bool = False,
    device: str | None = None,
    progress: Progress = silent,
) -> SweepResult:
    """Exports every combination of checkpoints, targets, precisions and options of a TOML file (docs/sweep.md).

    Each bundle is verified. Its accuracy is measured if there is a dataset, and its latency if there is a device. A
    bundle that fails its gate is still written, and marked. An error is recorded, and the other bundles continue. A
    second call continues where the first stopped: finished rows are reused, errors are retried.

    Args:
        specification: the TOML file.
        output: the sweep's folder, for bundles, `sweep.json` and `sweep.md`, both updated after every cell.
        scheduler: "local", for as many processes as cores and memory allow; or the address of a Dask scheduler, such as
            "tls://10.0.0.1:8786", whose workers see all files under the same names. When None "local", or this process
            if Dask is not installed.
        insecure_scheduler: accept an address without TLS, such as "tcp://10.0.0.1:8786". Anybody who reaches its port
            can then run code.
        device: device for latencies, as `devices` lists them; the file's when None.

    Returns:
        A row for each combination (`SweepResult.rows`), with its state.

    Raises:
        InvalidInput: the file or a checkpoint cannot be used.
        UsageError: a target, precision or option is unknown; the folder contains something else, or another sweep
            writes it; or a bundle needs more memory than there is.
        DependencyMissing: a target's packages, or Dask, are not installed.
        RuntimeFailed: the scheduler does not answer or is lost; finished rows stay.
    """
    require_tls(scheduler, insecure_scheduler)
    read = read_specification(Path(specification))
    if device is not None:
        read = read.model_copy(update={"device": device})
    if scheduler is None and importlib.util.find_spec("distributed") is not None:
        scheduler = LOCAL
    require_scheduler(scheduler)
    folder = Path(output)
    if folder.is_file():
        raise UsageError(f"{folder} is a file; choose another output with `output`")
    if _holds_other_files(folder):
        raise UsageError(f"{folder} exists and is not a sweep; choose another output with `output`")
    with sole_writer(folder / RESULT, "sweep", force=True):
        return _sweep(read, folder, scheduler, progress)


def _holds_other_files(folder: Path) -> bool:
    if not folder.is_dir() or (folder / RESULT).is_file():
        return False
    return any(LOCK.fullmatch(path.name) is None for path in folder.iterdir())


def _sweep(read: Specification, folder: Path, scheduler: str | None, progress: Progress) -> SweepResult:
    progress("planning")
    cells, notes = list_cells(read)
    _check_measuring(read)
    cells = with_contents(cells, read)
    clear_leftovers(folder)
    rows: dict[str, Row] = {cell.record: kept(cell, folder) or cell.row for cell in cells}

    def result() -> SweepResult:
        return SweepResult(output=str(folder), rows=tuple(rows.values()), notes=tuple(notes), device=read.device)

    def told(task: Task, ended: Row | Failed) -> None:
        cell: SweepCell = task.arguments[0]
        if isinstance(ended, Failed):
            error = RowError.of(ended.error)
            ended = record(cell, cell.row.model_copy(update={"state": "error", "error": error}), folder)
        rows[cell.record] = ended
        _write(result(), folder)

    left = [cell for cell in cells if rows[cell.record].state == "left"]
    absolute = folder.absolute()
    tasks = [
        Task(
            f"cell {number} of {len(left)}: {cell.row.name}",
            make_cell,
            (cell, absolute, scheduler is not None),
            cell_memory(cell),
        )
        for number, cell in enumerate(left, start=1)
    ]
    _write(result(), folder)
    run_tasks(tasks, told, scheduler, go_on=True, progress=progress)
    final = result()
    if read.device is not None:
        final = measure_latency(final, read, about("latency", progress))
    _write(final, folder)
    return final


def _check_measuring(specification: Specification) -> None:
    """Checks the device, protocol and dataset before the exports, which take hours.

    Raises:
        UsageError: the device or protocol is unknown.
        InvalidInput: the dataset is missing, or cannot be used.
    """
    get_protocol(specification.protocol)
    if specification.device is not None:
        get_driver(specification.device)
    if specification.dataset is not None:
        require_discriminating(read_dataset(Path(specification.dataset)))


def _write(result: SweepResult, output: Path) -> None:
    try:
        write_whole(output / RESULT, result.model_dump_json(indent=1) + "\n")
        write_whole(output / TABLE, markdown(result))
    except PermissionError as error:
        raise InvalidInput(f"{output} is not writable ({error.strerror}); choose another output") from error
