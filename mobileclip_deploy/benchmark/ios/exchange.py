"""Data that goes to the Swift harness and comes back.

To the harness: a checked plan, and exactly the files that the plan names. From the harness: finished rounds, checked
against the plan, and judged.
"""

import platform
from collections.abc import Collection
from pathlib import Path

from mobileclip_deploy.benchmark.documents import parse_document, parse_stream, read_stream
from mobileclip_deploy.benchmark.job import Turn
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Run
from mobileclip_deploy.errors import REASON, InvalidInput, RuntimeFailed, UsageError, reraising

PART_BYTES = 32 << 20
LOOKED_AT = "looked at: the device's progress was queried during this round"


def check_plan(plan: Plan) -> None:
    """Refuses plans that Core ML and Core AI cannot run.

    Raises:
        UsageError: the plan sets threads, or requests operator times.
    """
    if any(cell.threads != 1 for cell in plan.job.cells):
        raise UsageError("Core ML and Core AI choose their own threads; leave `threads` out")
    if plan.profile:
        raise UsageError(
            "Core ML and Core AI report no operator times; leave `profile` out (what Core ML plans is in every result)"
        )


def write_in_parts(plan: Plan, into: Path) -> Path:
    """Writes `into`/<run_id>, a folder of files without links. Splits large files into parts of `PART_BYTES`.

    The app joins the parts (FileParts.swift). So a broken connection costs the copy of one part only.
    """
    folder = into / plan.job.run_id
    plan.copy_to(folder)
    for file in [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > PART_BYTES]:
        count = -(-file.stat().st_size // PART_BYTES)
        with file.open("rb") as stream:
            for index in range(count):
                part = file.with_name(f"{file.name}.part{index:03d}of{count:03d}")
                part.write_bytes(stream.read(PART_BYTES))
        file.unlink()
    return folder


def checked_run(data: bytes | None, plan: Plan, kind: str) -> Run:
    """Checks the run file that the harness wrote at its end. Returns it with the rounds of the plan's stream.

    A run fetched by a computer other than a Mac counts as simulated, no matter what its file says.

    Args:
        kind: kind of the device that must have measured, ios or mac.

    Raises:
        RuntimeFailed: the file is missing or damaged, or belongs to another plan or kind of device.
    """
    if data is None:
        raise RuntimeFailed("the run is finished, but its file is gone; run the command again")
    name = f"{plan.job.run_id}.run.json"
    with reraising(f"{REASON}; run the command again, which fetches it again", InvalidInput, into=RuntimeFailed):
        run = parse_document(data.decode("utf-8", errors="replace"), Run, name)
    if run.job != plan.job:
        raise RuntimeFailed(f"{name} belongs to another job; delete the app from the device, and run the command again")
    if run.device.kind != kind:
        raise RuntimeFailed(f"{name} was measured on a device of kind {run.device.kind}, not {kind}")
    simulated = run.device.simulated or platform.system() != "Darwin"
    device = run.device.model_copy(update={"simulated": simulated})
    return run.model_copy(update={"device": device, "rounds": read_stream(plan.stream, plan.job)})


def store_rounds(data: bytes | None, plan: Plan, looked_at: Collection[Turn] = ()) -> None:
    """Stores the rounds of the harness's stream that the plan's stream does not contain yet.

    Args:
        looked_at: turns during which the device was checked; their rounds get the warning `LOOKED_AT`.

    Raises:
        InvalidInput: the stream does not belong to this run.
    """
    for finished in parse_stream(data or b"", plan.job, f"the device's {plan.stream.name}"):
        marks = (LOOKED_AT,) if Turn(cell=finished.cell, round=finished.round) in looked_at else ()
        plan.keep(finished.model_copy(update={"warnings": (*finished.warnings, *marks)}))


def interrupted(failure: RuntimeFailed, plan: Plan) -> RuntimeFailed:
    """Returns the failure of a started run, with the number of stored rounds added to its text."""
    rounds = plan.stream.read_bytes().count(b"\n") if plan.stream.exists() else 0
    of = len(plan.job.order)
    remainder = f"{rounds} of {of} rounds are kept: add `resume=True`" if rounds else "no round was finished yet"
    return RuntimeFailed(f"{failure} ({remainder})")
