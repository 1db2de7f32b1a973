"""The room's public functions: `benchmark`, `devices` and `write_job`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
) -> BenchmarkOutcome:
    """Time the towers of bundles on a device, in turns, each in a process of its own, and write the result.

    Args:
        bundles: as returned by `export`, or their folders; or one.
        device: `host`, `android:SERIAL`, ..., as `devices` lists them.
        protocol: standard, paced, paper or mlperf; `quick` makes a smoke test of it.
        tower: image, text or both.
        threads: of the runtime; each is a cell of its own.
        against: files of others, .onnx, .pte or .tflite.
        torch: the bundles' checkpoint too, in these of `TORCH_FORMS`; `checkpoint` where it is not found.
        output: where the result goes; None: `benchmark-<kind>-<UTC time>.json` in the working directory.
        seed: of the order of the rounds; random when None.
        team: Apple developer team that signs the app of an iPhone.
        runners: archive or folder of the programs that measure on an Android phone; None: those of this checkout, else
            those of the release that belongs to this version.
        runtime_versions: of an Android phone's runtimes, by name, as in `{"onnxruntime": "1.31.0"}`; None: those that
            the archive of programs names, with their hashes. Another version is fetched from PyPI without a hash.
        engine: `qnn-net-run`, with which a phone's NPU runs bundles of qnn; None: the programs of this project.
        profile: operator times as well, from one more inference.

    Returns:
        The result, and where it was written. `Outcome.failure` is an error where a cell answered wrongly or failed.

    Raises:
        InvalidInput: a bundle or a file is damaged, or the checkpoint is another one.
        UsageError: an unknown device, protocol or form, or options that go with something else.
        NotRun: the device runs nothing of it.
        RuntimeFailed: the device was lost; what was finished is kept for `resume`.
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
    from mobileclip_deploy.benchmark.running import run_benchmark  # with torch: what is refused, is refused before

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
    """Write a job for a phone that is out of reach, such as a device farm's, and measure nothing.

    Args:
        bundles: as returned by `export`, or their folders; or one.
        folder: the job goes into a folder of its own in it. What the phone sends back is read by `report`.
        device, protocol, quick, tower, seed, runners, runtime_versions, progress: as of `benchmark`.

    Returns:
        The job's folder. For an Android phone the programs that run it, and a script that starts them, lie in it too.

    Raises:
        InvalidInput: a bundle is damaged.
        UsageError: an unknown device or protocol, or a device that takes no job by hand.
        NotRun: the device runs nothing of it.
        RuntimeFailed: there are no programs for the phone, or they cannot be had.
    """
    chosen = get_protocol(protocol)
    request = make_request(bundles, tower)
    driver = get_driver(device, runners=optional_path(runners), runtime_versions=runtime_versions)
    from mobileclip_deploy.benchmark import running  # with torch

    return running.write_job(request, driver, quick_protocol(chosen) if quick else chosen, seed, Path(folder), progress)
