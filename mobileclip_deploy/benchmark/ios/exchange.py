"""What goes to the harness: a plan of nothing that Apple's runtimes cannot do, and exactly the files that it names; and
what comes back: finished rounds, checked against what was asked for, and judged."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from mobileclip_deploy.benchmark.documents import parse_document, parse_stream, read_stream
from mobileclip_deploy.benchmark.job import Turn
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import WHY, InvalidInput, RuntimeFailed, UsageError, refusing

PART_BYTES = 32 << 20
LOOKED_AT = "looked at: the device was asked how far it is during this round"


def check_plan(plan: Plan) -> None:
    """Refuse what Core ML and Core AI have no way to do.

    Raises:
        UsageError: threads, or operator times.
    """
    if any(cell.threads != 1 for cell in plan.job.cells):
        raise UsageError("Core ML and Core AI choose their threads themselves; leave `threads` out")
    if plan.profile:
        raise UsageError(
            "Core ML and Core AI tell no operator times; leave `profile` out (what Core ML plans is in every result)"
        )


def write_in_parts(plan: Plan, into: Path) -> Path:
    """Write `into`/<run_id>, a folder of real files. Large ones come in parts, which the app puts together again
    (FileParts.swift): so a connection that breaks costs the copy of one part."""
    folder = into / plan.job.run_id
    plan.copy_to(folder)
    for file in [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > PART_BYTES]:
        count = -(-file.stat().st_size // PART_BYTES)
        with file.open("rb") as stream:
            for number in range(count):
                part = file.with_name(f"{file.name}.part{number:03d}of{count:03d}")
                part.write_bytes(stream.read(PART_BYTES))
        file.unlink()
    return folder


def checked_run(data: bytes | None, plan: Plan, kind: str) -> Run:
    """What the harness wrote at the end of its run, with the rounds as the plan's stream holds them.

    One that names no stand-in, but was fetched by a computer that is no Mac, is a stand-in's all the same.

    Args:
        kind: of the device that it has to come from, ios or mac.

    Raises:
        RuntimeFailed: missing, damaged, or of something else than this plan.
    """
    if data is None:
        raise RuntimeFailed("the run is finished, but its file is gone; run the command again")
    name = f"{plan.job.run_id}.run.json"
    with refusing(f"{WHY}; run the command again, which fetches it anew", InvalidInput, into=RuntimeFailed):
        run = parse_document(data.decode("utf-8", errors="replace"), Run, name)
    if run.job != plan.job:
        raise RuntimeFailed(f"{name} is of another job; delete the app from the device, and run the command again")
    if run.device.kind != kind:
        raise RuntimeFailed(f"{name} was measured on a device of kind {run.device.kind}, not {kind}")
    simulated = run.device.simulated or platform.system() != "Darwin"
    device = run.device.model_copy(update={"simulated": simulated})
    return run.model_copy(update={"device": device, "rounds": read_stream(plan.stream, plan.job)})


def take_over(data: bytes | None, plan: Plan, looked_at: Collection[Turn] = ()) -> None:
    """Keep the rounds of the harness's stream that the plan's does not hold yet.

    Args:
        looked_at: the turns during which the device was asked how far it was, which their rounds say then.

    Raises:
        InvalidInput: it is not this run's.
    """
    for finished in parse_stream(data or b"", plan.job, f"the device's {plan.stream.name}"):
        marks = (LOOKED_AT,) if Turn(cell=finished.cell, round=finished.round) in looked_at else ()
        plan.keep(finished.model_copy(update={"warnings": (*finished.warnings, *marks)}))


def interrupted(failure: RuntimeFailed, plan: Plan) -> RuntimeFailed:
    """The failure of a run that had begun, and what is left of it."""
    rounds = plan.stream.read_bytes().count(b"\n") if plan.stream.exists() else 0
    of = len(plan.job.order)
    kept = f"{rounds} of {of} rounds are kept: add `resume=True`" if rounds else "no round was finished yet"
    return RuntimeFailed(f"{failure} ({kept})")
