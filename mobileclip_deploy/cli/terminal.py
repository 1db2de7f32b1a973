"""Text output to a terminal, with every invisible character escaped. Only this file and `output`, for text that it has
escaped itself, call `click.echo`."""

import contextlib
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
    """Prints one line, escaped, on stdout, on stderr (`err`) or in a stream. On a terminal, stdout is wrapped at
    words."""
    lines = in_width(shown(text), None if err or file is not None else stdout_width())
    click.echo("\n".join(lines), err=err, file=file)


class _Lossy(io.FileIO):
    """A file descriptor whose writes never fail: an output error does not end the work."""

    def write(self, data: Any, /) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[super().write(rest) or len(rest) :]
        return size


def prepare_streams() -> None:
    """Makes the standard streams usable, however the process was started.

    A closed stream is opened on the null device, under its own number. Otherwise the next opened file would get that
    number, and all output that other languages print. Failed writes to stderr are dropped.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is `number`
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    stderr = sys.stderr
    if stderr is sys.__stderr__ and stderr is not None:
        stderr.flush()
        raw = _Lossy(stderr.fileno(), "w", closefd=False)
        # Without a buffer: a signal between the write and its return would leave the line in it, and print it twice.
        sys.stderr = io.TextIOWrapper(raw, stderr.encoding, stderr.errors, line_buffering=True, write_through=True)


def stdout_width() -> int | None:
    """Returns the width of stdout in columns: the terminal's, or COLUMNS. None if stdout is a file without COLUMNS."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


def in_width(line: str, width: int | None) -> list[str]:
    """Returns the lines of a text, broken at words only; one line without a width."""
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


def guard_logging() -> None:
    """Escapes log messages and warnings without a handler, also those of other packages. Sets UTF-8 on Windows."""
    for stream in (sys.stdout, sys.stderr):
        # Windows would use its code page, which lacks characters and which no JSON reader expects.
        if sys.platform == "win32" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())
    warnings.formatwarning = lambda *words, **named: _each_line(PLAIN_WARNING(*words, **named))
