"""`sweep`: many bundles from one file, and one table of them."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.files import StrPath
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.scheduling import check_scheduler
from mobileclip_deploy.sweep.result import SweepResult
from mobileclip_deploy.sweep.running import run_sweep
from mobileclip_deploy.sweep.specification import read_specification

__all__ = ["SweepResult", "sweep"]


def sweep(
    specification: StrPath,
    output: StrPath,
    *,
    scheduler: str | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> SweepResult:
    """Export every combination of checkpoints, targets, precisions and options that a TOML file names (docs/sweep.md),
    each verified, with its accuracy where there is a dataset and its latency where there is a device.

    A bundle that fails its gate is written all the same, marked; one that cannot be made keeps its error, and the
    others go on. Called again, it goes on where it was: what is done is kept, errors are tried again.

    Args:
        specification: the TOML file.
        output: the sweep's folder: bundles, `sweep.json` and `sweep.md`, which are there after every cell.
        scheduler: "local", for as many processes as cores and memory allow; or the address of a Dask scheduler, such
            as "tcp://10.0.0.1:8786", whose workers see all files under the same names. When None "local", or this
            process where Dask is not installed.
        device: where latencies are measured, as `devices` lists them; the file's when None.

    Returns:
        A row for each combination (`SweepResult.rows`), with its state.

    Raises:
        InvalidInput: the file or a checkpoint cannot be used.
        UsageError: an unknown target, precision or option; the folder holds something else; or a bundle needs more
            memory than there is.
        DependencyMissing: a target's packages, or Dask, are not installed.
        RuntimeFailed: the scheduler does not answer or is lost; what was done stays.
    """
    check_scheduler(scheduler)
    read = read_specification(Path(specification))
    if device is not None:
        read = read.model_copy(update={"device": device})
    return run_sweep(read, Path(output), scheduler, progress)
