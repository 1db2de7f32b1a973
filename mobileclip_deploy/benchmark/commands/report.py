"""`report`: a page from the results of `benchmark`."""

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, BundlePath, json_option
from mobileclip_deploy.cli.terminal import say


@click.command()
@click.argument("results", nargs=-1, required=True, type=FILE, metavar="RESULT...")
@click.option(
    "-o",
    "outputs",
    multiple=True,
    type=FILE,
    default=("report.html",),
    show_default="report.html",
    metavar="FILE",
    help="File to write: report.html, report.md, figure.png or figure.svg. May be repeated.",
)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    type=BundlePath(),
    help="Core ML bundle that was measured, to explain which operations leave the Neural Engine. May be repeated.",
)
@click.option("--force", is_flag=True, help="Replace an existing report.")
@json_option
def report(
    results: tuple[Path, ...], outputs: tuple[Path, ...], bundles: tuple[Path, ...], force: bool, as_json: bool
) -> None:
    """Make a page from benchmark results of any devices: accuracy against latency, sortable tables, and the conditions.

    \b
    Example:
      mobileclip-deploy report host.json phone.json -o report.html -o figure.png
    """
    from mobileclip_deploy.benchmark.judgement import run_warnings
    from mobileclip_deploy.benchmark.report import report as write_report
    from mobileclip_deploy.cli.output import note, print_json

    read = write_report(results, outputs, bundles=bundles, force=force)
    notes = {result.run_id: run_warnings(result) for result in read}
    for run_id, texts in notes.items():
        for text in texts:
            note(f"Note: {run_id}: {text}")
    if as_json:
        print_json({"outputs": outputs, "runs": notes})
        return
    for path in outputs:
        say(f"wrote {path}")
