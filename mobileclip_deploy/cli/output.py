"""What commands print: results on stdout as tables or JSON, progress and notes on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mobileclip_deploy.cli.words import in_flags

if TYPE_CHECKING:
    from mobileclip_deploy.model.provenance import Provenance

__all__ = ["megabytes", "note", "note_provenance", "print_json", "print_table", "progress"]

PIPED_WIDTH = 140


def print_json(value: Any) -> None:
    """JSON on stdout; figures without bound become "Infinity", "-Infinity" and "NaN", for which JSON has no number."""
    click.echo(json.dumps(_strict(value), indent=2, ensure_ascii=False, allow_nan=False))


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def print_table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout; columns whose names start with `>` are right-aligned."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removeprefix(">")
        table.add_column(name, justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(colour(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
    with console.capture() as captured:  # written by click: rich would end the process itself on a broken pipe
        if title is not None:  # a line of its own: a table's title is folded to the table's width
            console.print(title, style="italic", markup=False, soft_wrap=True)
        console.print(table)
    click.echo(captured.get(), nl=False)


def colour(cell: str) -> Any:
    """The words that decide are coloured, nothing else; brackets in a cell are brackets."""
    from rich.text import Text

    styles = {"passed": "green", "failed": "bold red", "not run": "yellow", "missing": "yellow"}
    return Text(in_flags(cell), style=styles.get(cell, ""))


def note(text: str) -> None:
    """A remark on stderr."""
    click.echo(in_flags(text), err=True)


def note_provenance(provenance: Provenance) -> None:
    """Say on stderr which checkpoint is used, under which licence, and what was assumed."""
    which = "the built-in checkpoint nano" if provenance.builtin else f"{provenance.file}: {provenance.variant}"
    note(f"Using {which} ({provenance.layout} layout, licence of the weights: {provenance.licence}).")
    for text in provenance.notes:
        note(f"Note: {text}")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Shows what is being done: one changing line on a terminal, nothing where stderr is a file."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def megabytes(count: int) -> str:
    """Bytes in MB (10^6), one decimal."""
    return f"{count / 1e6:.1f}"
