"""A sweep's table, as Markdown and as cells for a screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobileclip_deploy.escaping import in_markdown, markdown_row
from mobileclip_deploy.model.variants import TOWERS
from mobileclip_deploy.sweep.result import Row, SweepResult

COLUMNS = (
    "checkpoint",
    "target",
    "precision",
    "options",
    ">MB",
    ">cosine image",
    ">cosine text",
    ">top-1 %",
    ">drop",
    ">recall@1 %",
    ">drop ",
    ">image ms",
    ">text ms",
    "state",
)
"""Those of numbers begin with `>`."""
FIGURES = ("top1", "image_to_text_recall@1")


def cells_of(row: Row) -> list[str]:
    """A row's texts, one per column."""
    figures: list[str] = []
    for name in FIGURES:
        figures += [_number(row.accuracy, name, ".2f"), _number(row.drop, name, "+.2f")]
    state = row.state
    why = ", ".join(row.failures) or (row.error.message if row.error is not None else "")
    return [
        row.checkpoint,
        row.target,
        row.precision,
        row.options or "",
        "" if row.bytes is None else f"{row.bytes / 1e6:.2f}",
        *(_number(row.cosine, tower, ".6f") for tower in TOWERS),
        *figures,
        *(_number(row.latency, tower, ".2f") for tower in TOWERS),
        f"{state}: {why}" if why else state,
    ]


def markdown(result: SweepResult) -> str:
    """The table, what was left out below it."""
    names = [column.removeprefix(">").strip() for column in COLUMNS]
    marks = ["---:" if column.startswith(">") else "---" for column in COLUMNS]
    lines = [markdown_row(names), f"|{'|'.join(marks)}|", *(markdown_row(cells_of(row)) for row in result.rows)]
    below = [f"\n{in_markdown(note)}" for note in result.notes]
    if result.device is not None:
        of = f"{result.device}, protocol {result.protocol}" if result.protocol else result.device
        error = f": {result.latency_error.message}" if result.latency_error is not None else ""
        below.append("\n" + in_markdown(f"Latencies: {of}{error}."))
    return "\n".join([*lines, *below]) + "\n"


def _number(values: Mapping[Any, float], name: str, form: str) -> str:
    return format(values[name], form) if name in values else ""
