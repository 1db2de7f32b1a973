"""A benchmark from request to result file, new or resumed.

It writes a folder with the job and its files, lets the driver run the job, and writes the result.
"""

import random
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mobileclip_deploy.base.files import check_file_destination
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.answers import Expected
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.cells import Cells
from mobileclip_deploy.benchmark.documents import read_job, read_stream, write_document
from mobileclip_deploy.benchmark.driver import Driver
from mobileclip_deploy.benchmark.job import CHECKPOINT, Cell, Job, Protocol, Turn
from mobileclip_deploy.benchmark.offline_jobs import save_expected
from mobileclip_deploy.benchmark.plan import SESSION, Plan
from mobileclip_deploy.benchmark.request import Request, RunOptions
from mobileclip_deploy.benchmark.result import Outcome, Result
from mobileclip_deploy.errors import MobileClipDeployError, NotRun, UsageError
from mobileclip_deploy.targets import get_target


@dataclass(frozen=True)
class _Prepared:
    """A run on one device whose job is written."""

    plan: Plan
    driver: Driver
    output: Path
    left_out: tuple[str, ...]


def run_benchmark(request: Request, driver: Driver, options: RunOptions, progress: Progress) -> Outcome:
    """Runs a request and writes the result, of several phones one for each. All start before the first is waited for.

    Until then everything is in `<output>.partial/`: `resume` continues from the files that an interruption leaves
    there. Of several devices the outputs have the device's name, and one that fails does not end the others.

    Raises:
        UsageError: the output exists; an interrupted run exists and `resume` was not given, or the other way round; the
            interrupted run has another job; or another process writes the output.
        NotRun: the device runs none of the cells.
        RuntimeFailed: the device was lost; of several devices, all of them.
    """
    outcomes: list[Outcome] = []
    lost: list[MobileClipDeployError] = []
    prepared: list[_Prepared] = []
    drivers = driver.each()
    with ExitStack() as stack:
        for each in drivers:
            with _noting(lost, several=len(drivers) > 1):
                output = options.output if len(drivers) == 1 else _of_device(options.output, each)
                run = _prepare(request, each, replace(options, output=output), progress)
                prepared.append(stack.enter_context(run))
        for started in prepared:
            with _noting(lost, several=len(drivers) > 1):
                outcomes.append(_finish(started, progress))
    if not outcomes:
        raise lost[0]
    return replace(outcomes[0], others=tuple(outcomes[1:]), lost=tuple(lost))


@contextmanager
def _noting(lost: list[MobileClipDeployError], several: bool) -> Iterator[None]:
    """Adds an error to `lost` if there are several devices."""
    try:
        yield
    except MobileClipDeployError as error:
        if not several:
            raise
        lost.append(error)


def _of_device(output: Path, driver: Driver) -> Path:
    return output.with_name(f"{output.stem}-{driver.selector}{output.suffix}")


@contextmanager
def _prepare(request: Request, driver: Driver, options: RunOptions, progress: Progress) -> Iterator[_Prepared]:
    """Writes the job of a device, new or resumed, and starts it. Removes it at the end unless it can be resumed."""
    replaces = options.force or options.resume
    check_file_destination(options.output, replaces)
    with sole_writer(options.output, "benchmark", force=replaces):
        output, seed = options.output, options.seed
        folder = output.with_name(f"{output.name}.partial")
        stored = _interrupted(folder, options.resume)
        run_id = stored.run_id if stored else _run_id(driver.kind)
        if stored and seed not in (None, stored.seed):
            raise UsageError(f"`seed` {seed}: the interrupted run has the seed {stored.seed}; leave `seed` out")
        chosen = stored.seed if stored else secrets.randbelow(2**31) if seed is None else seed
        folder.mkdir(parents=True, exist_ok=True)
        try:
            job, expected, left_out = build_job(request, driver, options.protocol, chosen, run_id, folder)
            if stored and job != stored:
                raise UsageError(
                    f"{folder} belongs to a run with other bundles or options; repeat those, or choose another `output`"
                )
            write_document(folder / "job.json", job)
            plan = Plan(folder, job, options.profile, _versions(request, job), expected)
            driver.start(plan, progress)
            yield _Prepared(plan, driver, output, left_out)
        except KeyboardInterrupt as stopped:
            if _is_resumable(folder):
                stopped.add_note(f"finished rounds are kept; go on with `output={output}` and `resume=True`")
            raise
        finally:
            if not _is_resumable(folder):
                shutil.rmtree(folder, ignore_errors=not folder.exists())


def _finish(run: _Prepared, progress: Progress) -> Outcome:
    """Waits for the run of a device, and writes its result."""
    result = assemble(run.driver.run(run.plan, progress)).model_copy(update={"left_out": run.left_out})
    write_document(run.output, result)
    shutil.rmtree(run.plan.folder)
    return Outcome(result, run.output, (*run.left_out, *_other_versions(run.plan, result)))


def _is_resumable(folder: Path) -> bool:
    """Returns whether rounds are finished, or go on without this computer."""
    return any(folder.glob("*.rounds.jsonl")) or (folder / SESSION).exists()


def _other_versions(plan: Plan, result: Result) -> Iterator[str]:
    """Yields a note for each runtime of a phone with another version than the bundles were proven with."""
    for runtime, version in result.runtimes.items() if result.device.is_android else ():
        others = sorted(plan.proven.get(runtime, frozenset()) - {version.partition("+")[0]})
        if others:
            yield f"{runtime} {version} ran on the phone, but bundles were verified with {', '.join(others)}"


def write_job(
    request: Request, driver: Driver, protocol: Protocol, seed: int | None, into: Path, progress: Progress
) -> Path:
    """Writes a job for a device that is not connected into `into`/<run_id>, with all files that it needs. Raises as
    `door.write_job`."""
    chosen = secrets.randbelow(2**31) if seed is None else seed
    with temporary_folder() as place:
        job, expected, _ = build_job(request, driver, protocol, chosen, _run_id(driver.kind), place)
        written = driver.write_job(Plan(place, job, versions=_versions(request, job)), into, progress)
        save_expected(job, expected)
        return written


def build_job(
    request: Request, driver: Driver, protocol: Protocol, seed: int, run_id: str, folder: Path
) -> tuple[Job, Expected, tuple[str, ...]]:
    """Puts every file below `folder`, and returns a job whose order is shuffled by `seed`.

    Returns:
        The job, its expected answers, and a line for each requested item that this device cannot run.

    Raises:
        NotRun: the device can run none of the items.
        InvalidInput: a bundle, its golden file or a competitor cannot be used.
    """
    made = Cells(request, driver, folder)
    cells: list[Cell] = []
    left_out: dict[str, None] = {}
    for label, cells_of in _wanted(request, made):
        try:
            cells += cells_of()
        except NotRun as reason:
            left_out[f"{label}: {reason}"] = None
    if not cells:
        raise NotRun("; ".join(left_out) or "the bundles have no requested tower")
    job = Job(
        schema_version=1,
        run_id=run_id,
        seed=seed,
        protocol=protocol,
        cells=tuple(cells),
        order=_shuffled([cell.id for cell in cells], protocol.rounds, seed),
    )
    return job, made.expected, tuple(left_out)


def _wanted(request: Request, cells: Cells) -> Iterator[tuple[str, Callable[[], Iterator[Cell]]]]:
    """Yields each requested item with its name; a checkpoint once, even if several bundles come from it."""
    for bundle in request.bundles:
        yield bundle.path.name, partial(cells.of_bundle, bundle)
    for path in request.against:
        yield path.name, partial(cells.of_competitor, path)
    seen: set[str] = set()
    for bundle in request.bundles if request.torch else ():
        if bundle.manifest.checkpoint.sha256 not in seen:
            seen.add(bundle.manifest.checkpoint.sha256)
            yield CHECKPOINT, partial(cells.of_checkpoint, bundle)


def _shuffled(cells: Sequence[str], rounds: int, seed: int) -> tuple[Turn, ...]:
    """Returns the turns round by round, with the cells of each round in random order."""
    generator = random.Random(seed)
    order = []
    for number in range(rounds):
        names = list(cells)
        generator.shuffle(names)
        order += [Turn(cell=name, round=number) for name in names]
    return tuple(order)


def _versions(request: Request, job: Job) -> dict[str, frozenset[str]]:
    """Returns runtime -> the versions that wrote and proved the bundles whose cells it runs."""
    by_runtime: dict[str, set[str]] = {}
    manifests = {bundle.path.name: bundle.manifest for bundle in request.bundles}
    for cell in job.cells:
        manifest = manifests.get(cell.bundle or "")
        if manifest is None:
            continue
        package = get_target(manifest.target).capabilities.packages.runtime_packages.get(cell.runtime, cell.runtime)
        version = manifest.environment.get(package)
        if version is not None:
            by_runtime.setdefault(cell.runtime, set()).add(version.partition("+")[0])
    return {runtime: frozenset(versions) for runtime, versions in by_runtime.items()}


def _run_id(kind: str) -> str:
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{kind}-{secrets.token_hex(2)}"


def _interrupted(folder: Path, resume: bool) -> Job | None:
    """Returns the job of an interrupted run that is resumed; None for a new run."""
    file = folder / "job.json"
    if not file.exists():
        if resume:
            raise UsageError(f"there is no interrupted run at {folder}; leave `resume=True` out")
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):  # the folder is removed at the end
            raise UsageError(f"{folder} exists and is not an interrupted run; choose another `output`")
        return None
    job = read_job(file)
    done = len(read_stream(folder / f"{job.run_id}.rounds.jsonl", job))
    if resume:
        return job
    if _is_resumable(folder):
        progress = f"{folder} has {done} of {len(job.order)} rounds of an interrupted run"
        raise UsageError(f"{progress}; add `resume=True`, or choose another `output`")
    shutil.rmtree(folder)
    return None
