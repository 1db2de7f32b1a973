"""What is built once for all processes: by whom, and of what. It imports nothing that has to be installed."""

import contextlib
import fcntl
import hashlib
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time: the others wait, and find what it has made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def files_digest(*folders: Path, packages: Iterable[str] = ()) -> str:
    """A hash of the names and contents of all files in folders, of packages, and of the system."""
    digest = hashlib.sha256(f"{sys.version} {platform.platform()}".encode())
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not {"__pycache__", ".build"} & set(path.parts):
                digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    digest.update(" ".join(packages).encode())
    return digest.hexdigest()[:16]
