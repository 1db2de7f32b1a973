"""`export --precision smallest`: searched for each target, with the table of what was tried."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli.options import ModelChoice, load

if TYPE_CHECKING:
    from mobileclip_deploy.export.smallest import Limits, SearchLog
    from mobileclip_deploy.parity import Gates
    from mobileclip_deploy.targets import ExportOptions, Target

__all__ = ["SmallestRequest", "export_smallest"]


@dataclass(frozen=True)
class SmallestRequest:
    """What `export` was asked for."""

    choice: ModelChoice
    targets: list[Target]
    tower: str
    options: ExportOptions
    gates: Gates
    limits: Limits
    output: Path
    force: bool
    as_json: bool


def export_smallest(request: SmallestRequest) -> None:
    """Search, write and print."""
    from mobileclip_deploy.api import export_smallest as search
    from mobileclip_deploy.cli.output import print_json, progress
    from mobileclip_deploy.cli.tables import print_exports
    from mobileclip_deploy.export.exporting import Exported

    model = load(request.choice)
    results = []
    for target in request.targets:
        with progress() as update:
            results.append(
                search(
                    model,
                    target.label,
                    request.output,
                    tower=request.tower,
                    options=request.options,
                    gates=request.gates,
                    max_drop=request.limits.max_drop,
                    budget=request.limits.budget,
                    force=request.force,
                    progress=update,
                )
            )
    written = [Exported(result.bundle, result.report) for result in results]
    if request.as_json:
        logs = [{"search": result.log.model_dump(mode="json")} for result in results]
        print_json([one.as_dict() | log for one, log in zip(written, logs, strict=True)])
        return
    print_exports(written)
    for result in results:
        print_search(result.log)


def print_search(log: SearchLog) -> None:
    """One row a candidate that was measured; those that a failed tower ruled out are counted."""
    from mobileclip_deploy.cli.output import megabytes, print_table

    seen: set[str | None] = set()
    rows = []
    for trial in log.trials:
        if trial.bytes is None and trial.reason in seen:
            continue
        seen.add(trial.reason)
        what = ", ".join(f"{tower} {precision}" for tower, precision in trial.precisions.items())
        size = "" if trial.bytes is None else megabytes(trial.bytes)
        rows.append([what, megabytes(trial.predicted_bytes), size, trial.outcome, trial.reason or ""])
    print_table(f"search on {log.target}", ["candidate", ">MB predicted", ">MB", "outcome", "reason"], rows)
    if len(rows) < len(log.trials):
        click.echo(f"{len(log.trials) - len(rows)} more were ruled out by a tower that had failed already.")
