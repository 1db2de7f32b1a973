"""Offline jobs, for devices that are not connected. Their expected answers stay here until the run comes back."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from mobileclip_deploy.base.files import cache_folder
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.tensors import read_tensors
from mobileclip_deploy.benchmark.answers import Expected, judge
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import REASON, InvalidInput


def save_expected(job: Job, expected: Expected) -> None:
    """Saves a job and its expected answers in this user's cache."""
    file = _file(job.run_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(expected), file, {"job": job.model_dump_json()})


def judge_offline(run: Run) -> Run | None:
    """Returns a run with its answers judged; None if this user's cache does not have the expected ones.

    Raises:
        InvalidInput: the job of the run differs from the saved one.
    """
    file = _file(run.run_id)
    if not file.exists():
        return None
    job, expected = _remembered(file)
    if run.job != job:
        raise InvalidInput(
            f"{run.run_id}: the device ran another job than the one written here; write it again and run it"
        )
    return run.model_copy(update={"rounds": tuple(judge(item, job, expected) for item in run.rounds)})


def _file(run_id: str) -> Path:
    return cache_folder("jobs") / f"{run_id}.safetensors"


def _remembered(file: Path) -> tuple[Job, Mapping[str, npt.NDArray[np.float32]]]:
    try:
        expected, metadata = read_tensors(file, REASON)
        return parse_model(Job, metadata["job"]), expected
    except (InvalidInput, ValueError, KeyError) as error:
        raise InvalidInput(f"{file} is damaged: delete it; the run is then reported without a comparison") from error
