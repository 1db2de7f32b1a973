"""Text on its way to a terminal, where every character that does not show itself is shown escaped. `output` calls
`click.echo` too, for what it has escaped itself; no other file does."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import textwrap
import warnings
from typing import Any, TextIO

import click

from mobileclip_deploy.base.escaping import shown

PLAIN_WARNING = warnings.formatwarning


def say(text: str = "", *, err: bool = False, file: TextIO | None = None) -> None:
    """Print one line, escaped, on stdout, on stderr (`err`) or in a stream; on stdout wrapped by words where that is a
    terminal."""
    lines = in_width(shown(text), None if err or file is not None else stdout_width())
    click.echo("\n".join(lines), err=err, file=file)


class _Lossy(io.FileIO):
    """A file descriptor whose writes never fail: what cannot be shown does not end the work."""

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        try:
            return super().write(data) or size
        except OSError:
            return size


def prepare_streams() -> None:
    """Makes the standard streams usable, however the process was started.

    A closed one is opened on the null device, on its own number: else the next file that is opened would get the
    number, and everything that other languages print. What cannot be written on stderr is dropped.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    stderr = sys.stderr
    if stderr is sys.__stderr__ and stderr is not None:
        stderr.flush()
        raw = io.BufferedWriter(_Lossy(stderr.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, encoding=stderr.encoding, errors=stderr.errors, line_buffering=True)


def stdout_width() -> int | None:
    """Columns of the terminal that stdout is; None where it is a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def in_width(line: str, width: int | None) -> list[str]:
    """The lines of a text, broken between words alone; one without a width."""
    if width is None:
        return [line]
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return _each_line(super().formatException(ei))


def _each_line(text: str) -> str:
    return "\n".join(map(shown, text.split("\n")))


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return _each_line(PLAIN_WARNING(message, category, filename, lineno, line))


def guard_logging() -> None:
    """Escapes what is logged or warned of, here and in foreign packages, and has no handler; in UTF-8 on Windows."""
    for stream in (sys.stdout, sys.stderr):
        # A file or a pipe would be in the system's code page, which lacks characters and which no JSON reader expects.
        if sys.platform == "win32" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())
    warnings.formatwarning = _warning
