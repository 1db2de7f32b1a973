"""How a table is laid out: as wide as it is in a file, and within a terminal's width without breaking a name."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len

GAP = "  "
INDENT = "    "
LINE = "─"


def laid_out(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines of a table, without blanks at their ends; columns without a cell are left out.

    Where it is wider than the terminal, cells of several words are folded between words; then the last such column goes
    under its row; then each row becomes lines of its own.

    Args:
        columns: names; those that start with `>` are right-aligned.
        width: of the terminal; None: the output is a file, and every row is one line.
    """
    used = [number for number in range(len(columns)) if not rows or any(row[number] for row in rows)]
    heads = [columns[number] for number in used]
    cells = [[row[number] for number in used] for row in rows]
    natural = _widths(heads, cells)
    if width is None or _total(natural) <= width:
        return _drawn(heads, cells, natural)
    least = _widths(heads, cells, words=True)
    if _total(least) <= width:
        return _drawn(heads, cells, _shrunk(natural, least, width))
    prose = [n for n, head in enumerate(heads) if not head.startswith(">") and any(" " in row[n] for row in cells)]
    if prose and len(heads) > 1:
        return _with_notes(heads, cells, prose[-1], width)
    return _stacked(heads, cells, width)


def terms(rows: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    """A line `name  text` per row; texts stand in one column, and are folded there where the terminal is narrower."""
    longest = max(map(cell_len, (name for name, _ in rows)), default=0)
    lines: list[str] = []
    for name, text in rows:
        head = f"{name}{' ' * (longest - cell_len(name))}{GAP}"
        if width is None or cell_len(head + text) <= width:
            lines.append((head + text).rstrip())
        else:
            lines += _folded(text, width, head, " " * cell_len(head))
    return lines


def _with_notes(heads: list[str], cells: list[list[str]], column: int, width: int) -> list[str]:
    """The table without one column, whose cells stand indented under their rows."""
    rest = [number for number in range(len(heads)) if number != column]
    names, others = [heads[n] for n in rest], [[row[n] for n in rest] for row in cells]
    least = _widths(names, others, words=True)
    if _total(least) > width:
        return _stacked(heads, cells, width)
    widths = _shrunk(_widths(names, others), least, width)
    lines = _drawn(names, [], widths)
    for row, other in zip(cells, others, strict=True):
        lines += _row(other, names, widths)
        lines += _folded(row[column], width, INDENT, INDENT)
    return lines


def _stacked(heads: list[str], cells: list[list[str]], width: int) -> list[str]:
    """Each row as lines `name  cell`, with a blank line between rows."""
    names = [head.removeprefix(">") for head in heads]
    longest = max(map(cell_len, names))
    lines: list[str] = []
    for row in cells:
        for name, cell in zip(names, row, strict=True):
            if cell:
                head = f"{name}{' ' * (longest - cell_len(name))}{GAP}"
                lines += _folded(cell, width, head, " " * cell_len(head))
        lines.append("")
    return lines[:-1]


def _folded(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    """Lines of a width, folded between words alone."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _widths(heads: Sequence[str], cells: Sequence[Sequence[str]], *, words: bool = False) -> list[int]:
    """Width of each column: that of its widest cell, or of the widest word in it."""
    widths = []
    for number, head in enumerate(heads):
        name, texts = head.removeprefix(">"), [row[number] for row in cells]
        figures = head.startswith(">")  # a figure with its interval stays on a line
        parts = [*name.split(), *(texts if figures else (word for text in texts for word in text.split()))]
        widths.append(max(map(cell_len, parts if words else [name, *texts]), default=0))
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _shrunk(natural: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Take what is too much from the widest column, as far as its words allow, and so on."""
    widths = list(natural)
    while _total(widths) > width:
        widest = max((n for n in range(len(widths)) if widths[n] > least[n]), key=lambda n: widths[n])
        widths[widest] -= 1
    return widths


def _drawn(heads: list[str], cells: list[list[str]], widths: list[int]) -> list[str]:
    lines = _row([head.removeprefix(">") for head in heads], heads, widths)
    lines.append(LINE * _total(widths))
    for row in cells:
        lines += _row(row, heads, widths)
    return lines


def _row(row: Sequence[str], heads: Sequence[str], widths: Sequence[int]) -> list[str]:
    """One row, as many lines as its longest cell has in its width."""
    folded = [
        _folded(cell, width) if cell_len(cell) > width else [cell] for cell, width in zip(row, widths, strict=True)
    ]
    lines = []
    for number in range(max(map(len, folded))):
        parts = []
        for cell, head, width in zip(folded, heads, widths, strict=True):
            text = cell[number] if number < len(cell) else ""
            blanks = " " * (width - cell_len(text))
            parts.append(blanks + text if head.startswith(">") else text + blanks)
        lines.append(GAP.join(parts).rstrip())
    return lines
