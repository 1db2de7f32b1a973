"""`sweep`: many bundles from one file, and one table of them."""

from __future__ import annotations

from pathlib import Path

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, json_option


@click.command()
@click.argument("specification", type=FILE, metavar="FILE.toml")
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR")
@click.option(
    "--scheduler",
    metavar="local|tcp://HOST:PORT",
    help="This machine's cores, as memory allows, or a Dask cluster [default: local, where Dask is installed].",
)
@click.option(
    "--device",
    metavar="KIND[:ID]",
    shell_complete=completion.devices,
    help="Measure latencies there, as `devices` lists them [default: the file's].",
)
@json_option
def sweep(specification: Path, output: Path, scheduler: str | None, device: str | None, as_json: bool) -> None:
    """Export every combination of the checkpoints, targets, precisions and options in FILE.toml, each verified.

    DIR gets the bundles, sweep.json and a table, sweep.md, with accuracy and, on a device, latency. Run again, it goes
    on where it was stopped. Bundles that fail their gate are written, marked; what could not be made keeps its error.

    \b
    Example:
      mobileclip-deploy sweep sweep.toml -o out/
      mobileclip-deploy sweep sweep.toml -o out/ --scheduler tcp://10.0.0.1:8786 --device android:SERIAL
    """
    from mobileclip_deploy.base.scheduling import check_scheduler
    from mobileclip_deploy.benchmark.sweep.specification import read_specification

    check_scheduler(scheduler)
    read_specification(specification)

    from mobileclip_deploy import sweep as run
    from mobileclip_deploy.cli.output import note, print_json, progress
    from mobileclip_deploy.cli.tables import print_sweep

    with progress() as update:
        result = run(specification, output, scheduler=scheduler, device=device, progress=update)
    if as_json:
        print_json(result)
    else:
        print_sweep(result)
    for text in result.notes:
        note(f"Note: {text}")
    if (failure := result.failure) is not None:
        from mobileclip_deploy.cli.output import conclude

        conclude(failure)
