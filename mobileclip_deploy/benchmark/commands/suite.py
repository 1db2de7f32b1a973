"""`evaluate --suite`: all datasets of a suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.cli.evaluate import check_subject, open_subject
from mobileclip_deploy.cli.options import DatasetChoice
from mobileclip_deploy.cli.output import note, print_table
from mobileclip_deploy.cli.tables import note_skipped
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.benchmark.suite.measuring import SuiteResult
    from mobileclip_deploy.network.model.preprocessing import Pixels

Suite = tuple[str, Path, Path | None, bool, "Pixels"]
"""Its name, the folder of its datasets, the page to write, whether to replace that page, and how pixels are made."""


def evaluate_suite(subject: Path | None, suite: Suite, data: DatasetChoice, as_json: bool) -> int:
    """Measures a bundle or a checkpoint on a suite, prints the result and returns the exit code.

    Raises:
        MobileClipDeployError: as `mobileclip_deploy.evaluate_suite`.
    """
    from mobileclip_deploy.benchmark.suite.tasks import checked_suite

    name, folder, html, force, pixels = suite
    checked_suite(name, folder, html, force)
    check_subject(subject)

    from mobileclip_deploy import evaluate_suite as run
    from mobileclip_deploy.cli.output import print_json, progress
    from mobileclip_deploy.cli.words import in_flags

    model = open_subject(subject)
    with progress() as update:
        result = run(
            model,
            folder,
            suite=name,
            html=html,
            force=force,
            pixels=pixels,
            skip_bad=data.skip_bad,
            cache=data.cache,
            progress=update,
        )
    if as_json:
        rows = tuple(row.model_copy(update={"reason": row.reason and in_flags(row.reason)}) for row in result.rows)
        print_json(result.model_copy(update={"rows": rows}))
    else:
        print_suite(result)
    return 2 if result.failed else 0


def print_suite(result: SuiteResult) -> None:
    """One row a dataset, then the averages."""
    rows = []
    for row in result.rows:
        figure = row.figure
        cells = [f"{figure.value:.2f}", f"{figure.low:.1f} .. {figure.high:.1f}"] if figure else ["", ""]
        known = "" if row.published is None else f"{row.published:.2f}"
        change = "" if row.difference is None else f"{row.difference.value:+.2f}"
        rows.append([row.name, row.metric, *cells, known, change, "" if row.status == "measured" else row.status])
    measured = sum(row.status == "measured" for row in result.rows)
    title = f"{result.model} on {result.suite} ({measured} of {len(result.rows)} datasets; {result.engine})"
    print_table(title, ["dataset", "metric", ">%", ">95% interval", ">published", ">change", ""], rows)
    for row in result.rows:
        if row.status == "failed":
            note(f"{row.name}: {row.reason}")
        note_skipped(row.skipped)
    if any("pyarrow" in (row.reason or "") for row in result.rows):
        note(next(row.reason or "" for row in result.rows if "pyarrow" in (row.reason or "")))
    theirs, source = result.published_average, result.published_source
    published = "" if theirs is None else f" (published: {theirs:.2f}; {source})"
    average = "not given: not every dataset was measured" if result.average is None else f"{result.average:.2f}"
    say(f"average: {average}{published}")
