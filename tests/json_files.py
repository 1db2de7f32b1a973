"""Files of JSON that tests change."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def repeat_key(path: Path) -> None:
    """Puts the first key of a file's first object in front of it once more, with null."""
    before, brace, rest = path.read_text(encoding="utf-8").partition("{")
    path.write_text(f"{before}{brace}{rest.split(':', 1)[0]}: null, {rest}", encoding="utf-8")


@contextmanager
def edited_json(path: Path) -> Iterator[Any]:
    """The document of a file, which is written again as the block leaves it."""
    document = json.loads(path.read_text(encoding="utf-8"))
    yield document
    path.write_text(json.dumps(document), encoding="utf-8")


def put(document: Any, place: Sequence[str | int], value: Any) -> None:
    """Give a document another value at a place of it; an object that lacks on the way is made."""
    *steps, last = place
    for step in steps:
        document = document[step] if isinstance(document, list) else document.setdefault(step, {})
    document[last] = value
