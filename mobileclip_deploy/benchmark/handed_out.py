"""Jobs that were written for devices out of reach: what they should answer stays here, until the run comes back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mobileclip_deploy.benchmark.answers import Expected, judge
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import cache_folder, check_tensors

__all__ = ["compared", "remember"]


def remember(job: Job, expected: Expected) -> None:
    """Keep a job, and what it should answer, in this user's cache."""
    file = _file(job.run_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(expected), file, {"job": job.model_dump_json()})


def compared(run: Run) -> Run | None:
    """A run with its answers judged; None where this user's cache does not hold what they should be.

    Raises:
        InvalidInput: it answers another job than the one that was written.
    """
    file = _file(run.run_id)
    if not file.exists():
        return None
    job, expected = _remembered(file)
    if run.job != job:
        raise InvalidInput(f"{run.run_id}: the device ran another job than was written here; write it again and run it")
    return run.model_copy(update={"rounds": tuple(judge(item, job, expected) for item in run.rounds)})


def _file(run_id: str) -> Path:
    return cache_folder("jobs") / f"{run_id}.safetensors"


def _remembered(file: Path) -> tuple[Job, Mapping[str, npt.NDArray[np.float32]]]:
    from safetensors import safe_open

    try:
        check_tensors(file)
        with safe_open(file, framework="np") as opened:
            job = Job.model_validate_json((opened.metadata() or {})["job"])
        return job, load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"{file} is damaged: delete it; the run is then reported without a comparison") from error
