"""The report as one HTML file: no network, no library, readable with keyboard and screen reader."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.report.drawing import draw
from mobileclip_deploy.benchmark.report.points import REFERENCE, device_name, figures
from mobileclip_deploy.benchmark.report.roofline_drawing import draw_roofline
from mobileclip_deploy.benchmark.report.table import columns, conditions, remarks, rows
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.benchmark.roofline import OPERATOR_COLUMNS, operator_rows, operator_shares, rooflines
from mobileclip_deploy.files.pages import filled_page

if TYPE_CHECKING:
    from mobileclip_deploy.inspect.linting import LintReport

__all__ = ["html_page"]


def html_page(results: Sequence[Result], lints: Sequence[LintReport] = ()) -> str:
    """The whole page: `page.html` filled in, with `page.css` and `page.js` inside it.

    Args:
        lints: of packages that were measured.
    """
    return filled_page(
        __package__ or "",
        warnings=run_warnings,
        columns=columns,
        rows=rows,
        conditions=conditions,
        remarks=partial(remarks, lints=lints),
        device_name=device_name,
        numeric=_numeric,
        reference=REFERENCE,
        operator_columns=OPERATOR_COLUMNS,
        operator_rows=operator_rows,
        operator_shares=operator_shares,
        roofline_drawings=lambda result: [draw_roofline(one) for one in rooflines(result)],
        results=results,
        count=sum(len(result.cells) for result in results),
        devices=list(dict.fromkeys(device_name(result) for result in results)),
        drawings=[draw(figure) for figure in figures(results)],
    )


def _numeric(result: Result) -> list[bool]:
    """Whether a column holds nothing but numbers, for each column."""
    lines, count = rows(result), len(columns(result))
    return [all(isinstance(row[index].value, float | int | None) for row in lines) for index in range(count)]
