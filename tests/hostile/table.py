"""One table of what was made to do harm: what it is, the command that meets it, and the one line that answers."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

MANY = "[" + "0," * 5_000_000 + "0]"
DEEP = "[" * 100_000


def nothing(_: Path) -> None:
    """Makes nothing: the harm stands in the command's words."""


@dataclass(frozen=True)
class Row:
    """A hostile input. The first row of each kind runs in `make test`, the others in `make test-all`.

    The command runs in `folder`, an empty folder or one with a bundle, so its words and the line name relative paths.
    It may print one line only, without control characters, and may leave nothing behind there, in HOME or in TMPDIR.
    """

    kind: str
    field: str
    make: Callable[[Path], object] = field(repr=False)
    """Makes the input in the folder."""
    words: tuple[str, ...]
    """The command and its arguments."""
    line: str
    """A part of the line, as exactly as it can be said."""
    code: int = 2
    """Exit code. With 0 any output may stand beside the line, and what is called `out...` may be left."""
    bundle: str = ""
    """`TARGET-PRECISION` of nano's bundle that `make` finds as `bundle` in the folder."""
    alone: bool = False
    """Whether it runs in a process of its own, with 20 s and 2 GB: for what takes time or memory, or kills."""
    megabytes: int = 500
    """Most memory that a process of its own may have had at once."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}-{self.field}"


def write(path: str, content: str | bytes | Callable[[], str]) -> Callable[[Path], object]:
    """Writes a file of the folder; what takes long to make is made then."""

    def make(folder: Path) -> None:
        file, held = folder / path, content() if callable(content) else content
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(held.encode() if isinstance(held, str) else held)

    return make


def sparse(path: str, size: int) -> Callable[[Path], object]:
    """Makes a file of the folder as large as told, without taking room on the disk."""

    def make(folder: Path) -> None:
        (folder / path).touch()
        os.truncate(folder / path, size)

    return make


def edit(change: Callable[[Any], object], file: str = "bundle/manifest.json") -> Callable[[Path], object]:
    """Changes a JSON document of the folder; the text "DIGITS" in it becomes a number of 5,000 digits."""

    def make(folder: Path) -> None:
        path = folder / file
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document)
        path.write_text(json.dumps(document).replace('"DIGITS"', "9" * 5_000), encoding="utf-8")

    return make


def both(*makers: Callable[[Path], object]) -> Callable[[Path], object]:
    """Makes one thing after the other."""

    def make(folder: Path) -> None:
        for one in makers:
            one(folder)

    return make


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """A limit for what may hang."""

    def late(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
