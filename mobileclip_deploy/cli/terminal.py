"""Text on its way out: names and labels of strangers can move a terminal's cursor, hide words or turn their order
round, so every character that does not show itself is shown escaped. No other file here calls `click.echo`."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
import warnings
from typing import Any, TextIO

import click

__all__ = ["guard_logging", "say", "shown", "shown_json"]

JOINERS = "\u200c\u200d"
"""Persian and emoji need them, and they do nothing else."""
NOT_ASCII = re.compile(r"[^ -~]")
PLAIN_WARNING = warnings.formatwarning


def shown(text: str) -> str:
    r"""One line: what is no printable character is shown as `\n`, `\x1b` or `\u202e`. A byte of a file name that is no
    UTF-8 is shown as the byte."""
    return text if text.isprintable() else NOT_ASCII.sub(lambda found: _shown(found[0]), text)


def _shown(character: str) -> str:
    if _is_harmless(character):
        return character
    if "\udc80" <= character <= "\udcff":  # how Python keeps such a byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _is_harmless(character: str) -> bool:
    """Whether it shows itself. Python counts spaces other than ASCII's as not printable."""
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def shown_json(text: str) -> str:
    """JSON that means the same: what `shown` escapes stands in it by JSON's own escapes."""
    return NOT_ASCII.sub(
        lambda found: found[0] if found[0] == "\n" or _is_harmless(found[0]) else json.dumps(found[0])[1:-1], text
    )


def say(text: str = "", *, err: bool = False, file: TextIO | None = None) -> None:
    """Print one line, escaped, on stdout, on stderr (`err`) or in a stream."""
    click.echo(shown(text), err=err, file=file)


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
    """What is logged or warned of, here and in foreign packages, and has no handler, goes to stderr escaped too."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Formatter())
    warnings.formatwarning = _warning
