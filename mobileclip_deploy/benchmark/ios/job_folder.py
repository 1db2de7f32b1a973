"""The plan as it goes to a device: nothing that Apple's runtimes cannot do, and exactly the files that it names."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.benchmark.driver import Plan
from mobileclip_deploy.errors import UsageError

PART_BYTES = 32 << 20


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
