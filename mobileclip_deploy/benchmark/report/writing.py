"""Reports in the format of the file name's suffix.

The HTML page is one file without network access or libraries, readable with keyboard and screen reader. The Markdown
has the same tables, and the figures as tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mobileclip_deploy.base.escaping import in_markdown, markdown_row
from mobileclip_deploy.base.files import StrPath, check_file_destination, paths, write_whole
from mobileclip_deploy.base.files.pages import filled_page
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.report.drawing import draw, write_picture
from mobileclip_deploy.benchmark.report.operators import OPERATOR_COLUMNS, operator_rows
from mobileclip_deploy.benchmark.report.points import REFERENCE, device_name, figures
from mobileclip_deploy.benchmark.report.table import SHOWN_LINES, card, columns, conditions, remarks, rows
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import UsageError

if TYPE_CHECKING:
    from mobileclip_deploy.verify.inspect.linting import LintReport

SUFFIXES = (".html", ".md", ".png", ".svg")
PICTURES = (".png", ".svg")


def report(
    results: StrPath | Sequence[StrPath],
    outputs: StrPath | Sequence[StrPath] = ("report.html",),
    *,
    bundles: StrPath | Sequence[StrPath] = (),
    force: bool = False,
) -> tuple[Result, ...]:
    """Writes a report of results of any devices: accuracy against latency, tables, and conditions.

    Args:
        results: one or several files that `benchmark` wrote.
        outputs: one or several paths of the report; .html, .md, .png or .svg.
        bundles: Core ML bundles that were measured. Findings of `lint` show why operations leave the Neural Engine.
        force: replace existing reports.

    Returns:
        The results, with every summary computed again from the raw samples.

    Raises:
        UsageError: there is no result, or an output exists or has another suffix.
        InvalidInput: a file is not a result, no result can be drawn, or a bundle is damaged.
    """
    written = paths(outputs)
    for path in written:
        if path.suffix not in SUFFIXES:
            raise UsageError(f"`outputs` {path}: a report ends with {', '.join(SUFFIXES)}; choose one of them")
        check_file_destination(path, force, "outputs")
    completed = tuple(complete(read_result(path)) for path in paths(results))
    if not completed:
        raise UsageError("no result was given; name files that `benchmark` wrote with `results`")
    lints: tuple[LintReport, ...] = ()
    if linted := paths(bundles):
        from mobileclip_deploy.verify.inspect.door import (
            lint,  # imports torch, which a report without bundles does not need
        )

        lints = tuple(one for bundle in linted for one in lint(bundle))
    # Pictures first: if the results cannot be drawn, nothing is written.
    for path in sorted(written, key=lambda one: one.suffix not in PICTURES):
        with sole_writer(path, "report", force=force):
            if path.suffix in PICTURES:
                write_picture(completed, path)
            else:
                text = html_page(completed, lints) if path.suffix == ".html" else markdown_page(completed, lints)
                write_whole(path, text)
    return completed


def html_page(results: Sequence[Result], lints: Sequence[LintReport] = ()) -> str:
    """Returns the whole page: `page.html` filled in, with `page.css` and `page.js` inside it.

    Args:
        lints: lint reports of packages that were measured.
    """
    return filled_page(
        __package__ or "",
        warnings=run_warnings,
        columns=columns,
        rows=rows,
        card=card,
        shown_lines=SHOWN_LINES,
        conditions=conditions,
        remarks=partial(remarks, lints=lints),
        device_name=device_name,
        numeric=_numeric,
        reference=REFERENCE,
        operator_columns=OPERATOR_COLUMNS,
        operator_rows=operator_rows,
        results=results,
        count=sum(len(result.cells) for result in results),
        devices=list(dict.fromkeys(device_name(result) for result in results)),
        drawings=[draw(figure) for figure in figures(results)],
    )


def _numeric(result: Result) -> list[bool]:
    """Returns for each column whether it contains only numbers."""
    lines, count = rows(result), len(columns(result))
    return [all(isinstance(row[index].value, float | int | None) for row in lines) for index in range(count)]


def markdown_page(results: Sequence[Result], lints: Sequence[LintReport] = ()) -> str:
    """Returns the report as Markdown, with the tables of the HTML page, and the figures as tables.

    Args:
        lints: lint reports of packages that were measured.
    """
    lines = ["# MobileCLIP on devices", ""]
    for result in results:
        lines += [f"## {in_markdown(device_name(result))}", ""]
        lines += [f"- **{in_markdown(text)}**" for text in run_warnings(result)] + [""]
        lines += _table(columns(result), [[field.text for field in row] for row in rows(result)])
        lines += ["", *(f"- {in_markdown(label)}: {in_markdown(text)}" for label, text in remarks(result, lints))]
        lines += ["", *(f"- {in_markdown(term)}: {in_markdown(text)}" for term, text in conditions(result)), ""]
        for cell, outcome in result.pairs():
            if outcome.profile:
                lines += [f"### Operators of {in_markdown(cell.label)}, {cell.runtime}", ""]
                lines += [*_table(OPERATOR_COLUMNS, operator_rows(outcome.profile)), ""]
    for figure in figures(results):
        lines += [
            f"## Accuracy against latency: {in_markdown(figure.device)}",
            "",
            f"{in_markdown(figure.accuracy)}.",
            "",
        ]
        points = [[point.label, f"{point.x:.3g}", f"{point.y:.1f}", "here"] for point in figure.points]
        points += [[point.label, f"{point.x:.3g}", f"{point.y:.1f}", REFERENCE] for point in figure.reference]
        lines += [*_table(("model", "ms", "%", "measured"), points), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(names: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = [names, ["---"] * len(names), *body]
    return [markdown_row(line) for line in lines]
