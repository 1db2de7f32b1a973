"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.report.points import REFERENCE, device_name, figures
from mobileclip_deploy.benchmark.report.table import columns, conditions, remarks, rows
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.benchmark.roofline import OPERATOR_COLUMNS, operator_rows, rooflines
from mobileclip_deploy.escaping import in_markdown, markdown_row

if TYPE_CHECKING:
    from mobileclip_deploy.inspect.linting import LintReport

__all__ = ["markdown_page"]


def markdown_page(results: Sequence[Result], lints: Sequence[LintReport] = ()) -> str:
    """The same tables as the HTML page; the figures as tables.

    Args:
        lints: of packages that were measured.
    """
    lines = ["# MobileCLIP on devices", ""]
    for result in results:
        lines += [f"## {in_markdown(device_name(result))}", ""]
        lines += [f"- **{in_markdown(text)}**" for text in run_warnings(result)] + [""]
        lines += _table(columns(result), [[field.text for field in row] for row in rows(result)])
        lines += ["", *(f"- {in_markdown(label)}: {in_markdown(text)}" for label, text in remarks(result, lints))]
        lines += ["", *(f"- {in_markdown(term)}: {in_markdown(text)}" for term, text in conditions(result)), ""]
        for drawn in rooflines(result):
            lines += [f"### How near to the limit: {in_markdown(drawn.cell.label)}, {drawn.cell.runtime}", ""]
            lines += [in_markdown(f"{drawn.summary}."), ""]
            lines += [*_table(OPERATOR_COLUMNS, operator_rows(drawn.shares)), ""]
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
