"""Layout of tables: natural width in a file, and within a terminal's width without breaking a name."""

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len

GAP = "  "
INDENT = "    "
LINE = "─"


def laid_out(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Returns the lines of a table, without trailing blanks; columns without a cell are left out.

    If the table is wider than the terminal, cells of several words are folded between words. If that is not enough, the
    last such column moves under its row. If that is not enough, each row becomes lines of its own.

    Args:
        columns: names; those that start with `>` are right-aligned.
        width: of the terminal; None: the output is a file, and every row is one line.
    """
    used = [index for index in range(len(columns)) if not rows or any(row[index] for row in rows)]
    heads = [columns[index] for index in used]
    cells = [[row[index] for index in used] for row in rows]
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
    """Returns a line `name  text` per row. Texts share one column, and are folded there on a narrower terminal."""
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
    """Returns the table without one column, whose cells are indented under their rows."""
    rest = [index for index in range(len(heads)) if index != column]
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
    """Returns each row as lines `name  cell`, with a blank line between rows."""
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
    """Returns lines of a width, folded between words only."""
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _widths(heads: Sequence[str], cells: Sequence[Sequence[str]], *, words: bool = False) -> list[int]:
    """Returns the width of each column: that of its widest cell, or of its widest word."""
    widths = []
    for index, head in enumerate(heads):
        name, texts = head.removeprefix(">"), [row[index] for row in cells]
        figures = head.startswith(">")  # a figure with its interval stays on a line
        parts = [*name.split(), *(texts if figures else (word for text in texts for word in text.split()))]
        widths.append(max(map(cell_len, parts if words else [name, *texts]), default=0))
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _shrunk(natural: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Returns widths that fit: takes columns from the widest column, down to its longest word, until the table fits."""
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
    """Returns one row as lines, as many as its longest cell needs."""
    folded = [
        _folded(cell, width) if cell_len(cell) > width else [cell] for cell, width in zip(row, widths, strict=True)
    ]
    lines = []
    for index in range(max(map(len, folded))):
        parts = []
        for cell, head, width in zip(folded, heads, widths, strict=True):
            text = cell[index] if index < len(cell) else ""
            blanks = " " * (width - cell_len(text))
            parts.append(blanks + text if head.startswith(">") else text + blanks)
        lines.append(GAP.join(parts).rstrip())
    return lines
