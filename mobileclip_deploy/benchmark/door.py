"""Public functions of this room: `benchmark`, `devices` and `write_job`."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.arguments import Seed
from mobileclip_deploy.base.files import StrPath, optional_path
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.benchmark.driver import Listing as DeviceListing
from mobileclip_deploy.benchmark.driver import devices, get_driver
from mobileclip_deploy.benchmark.job import get_protocol
from mobileclip_deploy.benchmark.job import quick as quick_protocol
from mobileclip_deploy.benchmark.request import RunOptions, make_request
from mobileclip_deploy.benchmark.result import Outcome as BenchmarkOutcome
from mobileclip_deploy.benchmark.result import Result as BenchmarkResult
from mobileclip_deploy.errors import UsageError

__all__ = ["BenchmarkOutcome", "BenchmarkResult", "DeviceListing", "benchmark", "devices", "write_job"]


def benchmark(
    bundles: Bundle | StrPath | Sequence[Bundle | StrPath],
    *,
    device: str = "host",
    protocol: str = "standard",
    quick: bool = False,
    tower: str = "both",
    threads: int | Sequence[int] = (1,),
    against: StrPath | Sequence[StrPath] = (),
    torch: str | Sequence[str] = (),
    checkpoint: StrPath | None = None,
    output: StrPath | None = None,
    force: bool = False,
    resume: bool = False,
    seed: Seed | None = None,
    team: str | None = None,
    runners: StrPath | None = None,
    runtime_versions: Mapping[str, str] | None = None,
    engine: str | None = None,
    profile: bool = False,
    progress: Progress = silent,
    announce: Callable[[str], None] | None = None,
) -> BenchmarkOutcome:
    """Times the towers of bundles on a device, in turns, each in a process of its own, and writes the result.

    Args:
        bundles: as returned by `export`, or their folders; or one.
        device: `host`, `android:SERIAL`, ..., as `devices` lists them. Of rented phones several: `ddp:ID,ID`.
        protocol: standard, paced, paper or mlperf; `quick` makes a smoke test of it.
        tower: image, text or both.
        threads: number of threads of the runtime, or several; each is a cell of its own.
        against: foreign files, .onnx, .pte or .tflite.
        torch: forms of `TORCH_FORMS` in which the bundles' checkpoint is timed too.
        checkpoint: path of the checkpoint, if it is not found.
        output: file of the result; `benchmark-<kind>-<UTC time>.json` in the working directory when None. Of several
            phones each has a file, with `-ID` before the suffix.
        force: replace an existing result.
        resume: continue an interrupted run with the same `output`.
        seed: seed of the order of the rounds; random when None.
        team: Apple developer team that signs the app of an iPhone.
        runners: archive or folder of the programs that measure on an Android phone. When None those of this checkout,
            else those of the release that belongs to this version.
        runtime_versions: versions of an Android phone's runtimes by name, as in `{"onnxruntime": "1.31.0"}`. Another
            version than that of the archive is fetched from PyPI without a hash. When None the archive's versions, with
            their hashes.
        engine: `qnn-net-run`, with which a phone's NPU runs bundles of qnn; the programs of this project when None.
        profile: measure operator times too, in one more inference.
        announce: gets a line before a rented phone starts: its longest time, and the price list.

    Returns:
        The result, and its path. `Outcome.failure` is an error if a cell had wrong answers or failed.

    Raises:
        InvalidInput: a bundle or a file is damaged, or the checkpoint is another one.
        UsageError: the device, protocol or form is unknown, or options do not fit together.
        NotRun: the device runs none of the cells.
        RuntimeFailed: the device was lost; finished rounds are kept for `resume`.
    """
    driver = get_driver(device, team, optional_path(runners), engine, runtime_versions)
    chosen = get_protocol(protocol)
    if resume and output is None:
        raise UsageError("`resume=True` goes on with a run whose `output` is named; name it")
    request = make_request(bundles, tower, threads, against, torch, checkpoint)
    named = f"benchmark-{driver.kind}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    options = RunOptions(
        protocol=quick_protocol(chosen) if quick else chosen,
        output=Path(named if output is None else output),
        seed=seed,
        resume=resume,
        force=force,
        profile=profile,
    )
    from mobileclip_deploy.benchmark.running import run_benchmark  # imports torch, so arguments are checked before

    driver.announce = announce or progress
    return run_benchmark(request, driver, options, progress)


def write_job(
    bundles: Bundle | StrPath | Sequence[Bundle | StrPath],
    folder: StrPath,
    *,
    device: str = "ios",
    protocol: str = "standard",
    quick: bool = False,
    tower: str = "both",
    seed: Seed | None = None,
    runners: StrPath | None = None,
    runtime_versions: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Path:
    """Writes a job for a phone that is not connected, such as one in a device farm, without measuring anything.

    Args:
        bundles: as returned by `export`, or their folders; or one.
        folder: folder in which the job gets a folder of its own. `report` reads the run that the phone sends back.
        device, protocol, quick, tower, seed, runners, runtime_versions, progress: as of `benchmark`.

    Returns:
        The job's folder. For an Android phone it also contains the programs that run the job, and a script that starts
            them.

    Raises:
        InvalidInput: a bundle is damaged.
        UsageError: the device or protocol is unknown, or the device takes no jobs started by hand.
        NotRun: the device runs none of the cells.
        RuntimeFailed: the programs for the phone are missing, and cannot be fetched.
    """
    chosen = get_protocol(protocol)
    request = make_request(bundles, tower)
    driver = get_driver(device, runners=optional_path(runners), runtime_versions=runtime_versions)
    from mobileclip_deploy.benchmark import running  # imports torch

    return running.write_job(request, driver, quick_protocol(chosen) if quick else chosen, seed, Path(folder), progress)
