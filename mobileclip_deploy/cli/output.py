"""Output of commands: results on stdout as tables or JSON, progress and notes on stderr."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mobileclip_deploy.base.escaping import in_spreadsheet, shown, shown_json
from mobileclip_deploy.cli.terminal import in_width, say, stdout_width
from mobileclip_deploy.cli.words import in_flags

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from rich.console import RenderableType

    from mobileclip_deploy.base.progress import Progress
    from mobileclip_deploy.errors import MobileClipDeployError
    from mobileclip_deploy.network.model.provenance import Provenance

BAR_WIDTH = 16
MOMENT = 2.0
"""Seconds without a progress line, for commands that usually end within them."""
QUIET = "mobileclip_deploy.quiet"
"""Key in `click.Context.meta`: True if progress is switched off."""


def print_json(value: Any) -> None:
    """Prints JSON on stdout, each object with its `schema_version`: the document, or the objects of a list.

    Models, dataclasses and paths are written as pydantic writes them, whose schemas are published (`schemas`). Infinite
    values become "Infinity", "-Infinity" and "NaN", since JSON has no such numbers.
    """
    from pydantic_core import to_jsonable_python

    value = to_jsonable_python(value)
    value = [_versioned(item) for item in value] if isinstance(value, list | tuple) else _versioned(value)
    click.echo(shown_json(json.dumps(_strict(value), indent=2, ensure_ascii=False, allow_nan=False)))


def _versioned(value: dict[str, Any]) -> dict[str, Any]:
    return {"schema_version": 1} | value  # an object's own version wins


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints CSV on stdout, with a header row; no cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[in_spreadsheet(cell) for cell in row] for row in rows])
    click.echo(text.getvalue(), nl=False)


def print_table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table on stdout. Columns whose names start with `>` are right-aligned; columns without a cell are left
    out."""
    from mobileclip_deploy.cli.columns import laid_out

    width = stdout_width()
    lines = laid_out([*map(shown, columns)], [[shown(in_flags(cell)) for cell in row] for row in rows], width)
    head = [] if title is None else in_width(shown(title), width)
    for line in (*(click.style(line, italic=True) for line in head), *map(_coloured, lines), ""):
        click.echo(line)


def print_terms(rows: Iterable[tuple[str, str]]) -> None:
    """Prints lines `name  text` on stdout. Texts share one column and are folded there on a terminal."""
    from mobileclip_deploy.cli.columns import terms

    for line in terms([(shown(name), shown(text)) for name, text in rows], stdout_width()):
        click.echo(line)


DECIDING = {"passed": "green", "failed": "red", "FAILED": "red"}
DECIDING |= dict.fromkeys(("not run", "undecided", "missing"), "yellow")


def _coloured(line: str) -> str:
    """Colours verdict words that are a whole cell; output to a file stays plain."""
    words = "|".join(DECIDING)
    return re.sub(rf"(?<=  )({words})(?=  |$)", lambda word: click.style(word[0], fg=DECIDING[word[0]]), line)


def note(text: str) -> None:
    """Prints a remark on stderr."""
    say(in_flags(text), err=True)


def named_once(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Returns each path once, in order, and notes those that are named again."""
    counts = Counter(paths)
    for path, count in counts.items():
        if count > 1:
            note(f"{path} is named {count} times; it has one row")
    return tuple(counts)


def note_provenance(provenance: Provenance) -> None:
    """Prints the used checkpoint, its licence and the assumptions about it on stderr."""
    for text in provenance.sentences():
        note(text)


def quiet() -> bool:
    """Returns whether progress is switched off."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


@contextmanager
def progress(patience: float = 0.0) -> Iterator[Progress]:
    """Shows progress on stderr, unless quiet. On a terminal, one changing line, with a bar if the progress of a stage
    is known. Otherwise one line per stage that lasts for `patience` seconds."""
    from mobileclip_deploy.base.progress import Lines, silent

    if quiet():
        yield silent
        return
    stream = sys.stderr  # before converters' prints are captured, which replaces sys.stderr
    if not stream.isatty():
        with Lines(lambda text: say(text, file=stream), patience=patience).reminding() as lines:
            yield lines
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(with_bar(shown(text)))


@contextmanager
def reading(path: str | PathLike[str] | None) -> Iterator[None]:
    """Shows as progress that a dataset is read, if that takes more than a moment."""
    if path is None:
        yield
        return
    with progress(MOMENT) as update:
        update(f"reading {path}")
        yield


def with_bar(text: str) -> RenderableType:
    """Returns a progress text for a terminal, with a bar before it if the text has a count, as in `4.2 of 17.3 MB`."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    counted = re.search(r"\b(\d[\d,]*(?:\.\d+)?) of (\d[\d,]*(?:\.\d+)?)", text)
    if counted is None:
        return Text(text)
    done, total = (float(figure.replace(",", "")) for figure in counted.groups())
    line = Table.grid(padding=(0, 1))
    line.add_row(ProgressBar(total=total, completed=done, width=BAR_WIDTH), Text(text))
    return line


def wants_json() -> bool:
    """Returns whether stdout will be JSON. Reads the words of the command line, since its options may be invalid."""
    words = sys.argv[1:]
    words = words[: words.index("--")] if "--" in words else words
    command = next((word for word in words if not word.startswith("-")), "")
    if command != "benchmark":
        return "--json" in words
    return "--json=-" in words or ("--json", "-") in itertools.pairwise(words)


def print_error(error: MobileClipDeployError, prefix: str = "error: ") -> None:
    """Prints an error as one line on stderr: its text, or the document of docs/ci.md if stdout is JSON."""
    if wants_json():
        document = {"schema_version": 1, "error": error.as_dict()}
        click.echo(shown_json(json.dumps(document, ensure_ascii=False)), err=True)
    else:
        say(f"{prefix}{error.line}", err=True)


def conclude(error: MobileClipDeployError) -> NoReturn:
    """Ends the command with an error's text and exit code, after a bad result was printed."""
    from mobileclip_deploy.cli.words import put_in_flags

    put_in_flags(error)
    print_error(error, prefix="")
    raise SystemExit(error.exit_code)


def megabytes(count: int) -> str:
    """Returns bytes in MB (10^6), one decimal."""
    return f"{count / 1e6:.1f}"


def sized(count: int) -> str:
    """Returns bytes with the unit: in MB, or in kB below 0.1 MB."""
    return f"{megabytes(count)} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
