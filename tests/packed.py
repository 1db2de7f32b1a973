"""Files that tests make as bytes."""

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path


def saved(write: Callable[[io.BytesIO], object]) -> bytes:
    """What is written to a stream."""
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
