"""`sweep`: many bundles from one file, and one table of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, json_option
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.benchmark.sweep.result import State, SweepResult


@click.command()
@click.argument("specification", type=FILE, metavar="FILE.toml")
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Folder to write bundles and tables to.")
@click.option(
    "--scheduler",
    metavar="local|tls://HOST:PORT",
    help="Where exports run: local for this machine's cores, or a Dask cluster's address. [default: local, where Dask "
    "is installed]",
)
@click.option("--insecure-scheduler", is_flag=True, help="Use a cluster without TLS, in a network that you trust.")
@click.option(
    "--device",
    metavar="KIND[:ID]",
    shell_complete=completion.names("benchmark.driver", "DRIVERS"),
    help="Device to measure latencies on, as listed by `devices`. [default: the file's]",
)
@json_option
def sweep(
    specification: Path,
    output: Path,
    scheduler: str | None,
    insecure_scheduler: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Export every combination of the checkpoints, targets, precisions and options in FILE.toml, each verified.

    DIR gets the bundles, sweep.json and a table, sweep.md, with accuracy and, on a device, latency. An interrupted run
    resumes when it is repeated. Bundles that fail their gate are written and marked; a bundle that cannot be made has
    its error in the table.

    \b
    Example:
      mobileclip-deploy sweep sweep.toml -o out/
      mobileclip-deploy sweep sweep.toml -o out/ --scheduler tls://10.0.0.1:8786 --device android:SERIAL
    """
    from mobileclip_deploy.base.scheduling import require_tls
    from mobileclip_deploy.benchmark.sweep.specification import read_specification

    require_tls(scheduler, insecure_scheduler)
    read_specification(specification)

    from mobileclip_deploy import sweep as run
    from mobileclip_deploy.cli.output import note, print_json, progress

    with progress() as update:
        result = run(
            specification,
            output,
            scheduler=scheduler,
            insecure_scheduler=insecure_scheduler,
            device=device,
            progress=update,
        )
    if as_json:
        print_json(result)
    else:
        print_sweep(result)
    for text in result.notes:
        note(f"Note: {text}")
    if (failure := result.failure) is not None:
        from mobileclip_deploy.cli.output import conclude

        conclude(failure)


def print_sweep(result: SweepResult) -> None:
    """One row per cell, then how many ended how."""
    from mobileclip_deploy.benchmark.sweep.door import TABLE
    from mobileclip_deploy.benchmark.sweep.result import COLUMNS, cells_of
    from mobileclip_deploy.cli.output import print_table

    print_table(None, COLUMNS, [cells_of(row) for row in result.rows])
    states: tuple[State, ...] = ("passed", "failed", "undecided", "not run", "error", "left")
    counted = ", ".join(f"{result.count(state)} {state}" for state in states if result.count(state))
    say(f"wrote {result.output}/{TABLE}: {counted}")
