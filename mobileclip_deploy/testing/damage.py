"""Artifacts that are not what they should be: cut off, empty, foreign, or telling of the machine that wrote them."""

from __future__ import annotations

import getpass
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.targets import Target

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "foreign": lambda data: b"P" * 999,
}


def names_machine(path: Path) -> list[str]:
    """The words of an artifact that say on which machine, or from where, it was written."""
    words = [str(Path.cwd()), "site-packages", "/home/", "/tmp/", f"/{getpass.getuser()}/"]
    contents = [file.read_bytes() for file in _files(path)]
    return [word for word in words if any(word.encode() in content for content in contents)]


def not_refused(target: Target, path: Path, folder: Path) -> Iterator[str]:
    """How a target reads copies of an artifact whose largest file is damaged, where that is not a refusal in one line.

    What reads another file of the artifact than the damaged one may answer; a runner may not.
    """
    largest = max(_files(path), key=lambda file: file.stat().st_size).relative_to(path)
    for kind, damage in DAMAGES.items():
        copy = folder / kind / path.name
        shutil.copytree(path, copy) if path.is_dir() else _copy(path, copy)
        (copy / largest).write_bytes(damage((path / largest).read_bytes()))
        for name in ("ports", "operators", "inspection", "graph", "weights", "runner"):
            what, runs = f"`{name}` of a file that is {kind}", name == "runner"
            try:
                found = target.open(copy).runner() if runs else getattr(target.open(copy), name)
            except (InvalidInput, RuntimeFailed) as error:
                if "\n" in str(error):
                    yield f"{what} is refused in several lines: {error}"
                if not isinstance(error, InvalidInput) and not runs:
                    yield f"{what} is no InvalidInput: {error}"
            except Exception as error:  # whatever a library makes of it
                yield f"{what} ends in {type(error).__name__}: {error}"
            else:
                if runs or (found is not None and not path.is_dir()):
                    yield f"{what} is not refused"


def _copy(path: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, copy)


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
