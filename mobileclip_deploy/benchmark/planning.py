"""From a request and a driver to a plan: a folder with the job and every file that it names."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from mobileclip_deploy.benchmark.answers import Expected
from mobileclip_deploy.benchmark.cells import Cells
from mobileclip_deploy.benchmark.driver import Driver
from mobileclip_deploy.benchmark.job import CHECKPOINT, Cell, Job, Protocol, Turn
from mobileclip_deploy.benchmark.request import Request
from mobileclip_deploy.errors import NotRun

__all__ = ["build_job"]


def build_job(
    request: Request, driver: Driver, protocol: Protocol, seed: int, run_id: str, folder: Path
) -> tuple[Job, Expected, tuple[str, ...]]:
    """Put every file below `folder`, and say what is to be run, in an order that `seed` shuffles.

    Returns:
        The job, what it should answer, and a line for everything that was asked for and cannot be run on this device.

    Raises:
        NotRun: nothing of it can.
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
        raise NotRun("; ".join(left_out) or "the bundles hold none of the towers asked for")
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
    """Everything that was asked for, with its name; a checkpoint once, however many bundles it has."""
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
    """Round by round, the cells of each in an order of its own."""
    generator = random.Random(seed)
    order = []
    for number in range(rounds):
        names = list(cells)
        generator.shuffle(names)
        order += [Turn(cell=name, round=number) for name in names]
    return tuple(order)
