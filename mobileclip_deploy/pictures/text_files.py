"""Text files of a dataset, read as UTF-8 line by line, so that an error can name the line."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mobileclip_deploy.base.files import check_items, json_text, read_regular
from mobileclip_deploy.errors import InvalidInput, reraising


class BadRows:
    """Faults of a dataset's rows, one line each. `skip`: True if a bad row is left out, False if it is refused."""

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.found: list[str] = []

    def add(self, text: str) -> None:
        """Records a row that cannot be used.

        Args:
            text: names the file, the row, and its fault.

        Raises:
            InvalidInput: bad rows are not to be left out.
        """
        if not self.skip:
            raise InvalidInput(f"{text}; correct it, or leave such rows out with `skip_bad=True`")
        self.found.append(text)


M = TypeVar("M", bound=BaseModel)
# Size limits of a list of classes or templates, and of a table or Karpathy's JSON (COCO's: 144 MB, 10 million items).
LIST_BYTES, TABLE_BYTES = 16 << 20, 2 << 30
LINE_BYTES = 1 << 20
"""Size limit of one line: a row with its captions, a class, a template."""
LIST_ITEMS, TABLE_ITEMS = 2_000_000, 20_000_000


def read_lines(path: Path, bad: BadRows, limit: int = LIST_BYTES) -> list[tuple[int, str]]:
    """Reads the lines that are not blank, with their numbers (from 1) and without line ends or a byte order mark.

    Raises:
        InvalidInput: the file cannot be read or is larger than `limit` bytes, or a line is not UTF-8 or longer than
            `LINE_BYTES` (unless bad rows are skipped).
    """
    lines = []
    for number, raw in enumerate(_read_bytes(path, limit).removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if len(raw) > LINE_BYTES:
            bad.add(f"{path}:{number}: a line of {len(raw):,} bytes; at most {LINE_BYTES:,} are read")
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            bad.add(f"{path}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1})")
            continue
        if text.strip():
            lines.append((number, text))
    return lines


def read_text(path: Path, limit: int = LIST_BYTES) -> str:
    """Reads a whole file, without a byte order mark.

    Raises:
        InvalidInput: it cannot be read, is larger than `limit` bytes, or is not UTF-8.
    """
    with reraising(f"{path} cannot be read as UTF-8 text", UnicodeDecodeError):
        return _read_bytes(path, limit).removeprefix(b"\xef\xbb\xbf").decode("utf-8")


def read_texts(path: Path) -> list[str]:
    """Reads the texts of a file: one per line, or JSON lines with a string or an object with a `text`.

    Raises:
        InvalidInput: the file cannot be read, or is empty.
    """
    lines = read_lines(path, BadRows(skip=False))
    if not lines:
        raise InvalidInput(f"{path} has no texts")
    if path.suffix.lower() == ".txt":
        return [line for _, line in lines]
    texts = []
    for number, line in lines:
        value = parse_json(f"{path}:{number}", line)
        text = value.get("text") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise InvalidInput(f'{path}:{number}: neither a string nor an object with a "text"')
        texts.append(text)
    return texts


def parse_json(where: Path | str, text: str, items: int = LIST_ITEMS) -> Any:
    """Parses a JSON value.

    Raises:
        InvalidInput: it is not JSON, or has more than `items` items.
    """
    check_items(where, text, items)
    with reraising(f"{where} is not JSON", ValueError, RecursionError):
        return json_text.parse_json(text)


def validated(kind: type[M], where: Path | str, value: Any) -> M:
    """Converts a JSON value to a model of this class.

    Raises:
        InvalidInput: a field is missing or of another type.
    """
    with reraising(f"{where}", ValidationError):
        return kind.model_validate(value)


def _read_bytes(path: Path, limit: int) -> bytes:
    with reraising(f"{path} cannot be read", OSError):
        return read_regular(path, limit)
