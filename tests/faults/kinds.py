"""What the tables of faults of all targets share: an edit of an artifact, where it can be made, the tests' cases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

from mobileclip_deploy.files import artifact_sha256
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets import Artifact, Target, get_target
from mobileclip_deploy.verify import reproduction

__all__ = [
    "Edit",
    "cases",
    "conversions_read_once",
    "renumbered",
    "require_failed",
    "require_kinds",
    "require_passed",
    "swap_neighbours",
]

File = TypeVar("File")


@dataclass(frozen=True)
class Edit(Generic[File]):
    """A change of an artifact, in the towers and precisions that can have it; no precisions: in all.

    `plant` changes the opened file, and gives what the check must name; None where nothing of it has a name.
    """

    name: str
    plant: Callable[[File], str | None]
    towers: tuple[TowerName, ...] = TOWERS
    precisions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def cases(edits: Iterable[Edit[File]], kept: Mapping[TowerName, Iterable[str]]) -> list[object]:
    """Parameters `tower, precision, edit`: each edit in every tower and precision that it is for."""
    return [
        pytest.param(tower, precision, edit, id=f"{tower}-{precision}-{edit}")
        for edit in edits
        for tower in edit.towers
        for precision in kept.get(tower, ())
        if not edit.precisions or precision in edit.precisions
    ]


def renumbered(stored: bytes, dtype: str, change: Callable[[npt.NDArray[Any]], None]) -> bytes:
    """The bytes of an array with other numbers in it."""
    values = np.frombuffer(stored, dtype).copy()
    change(values)
    return values.tobytes()


def swap_neighbours(values: npt.NDArray[Any]) -> None:
    """The first two numbers, the next two, and so on, each in the other's place."""
    pairs = values.reshape(-1, 2)
    pairs[:] = pairs[:, ::-1].copy()


def require_kinds(faults: Sized, harmless: Sized) -> None:
    """There are as many as of every target."""
    assert len(faults) >= 40
    assert len(harmless) >= 5


def require_failed(check: Check, named: str | None) -> None:
    """The check failed, and says where."""
    assert check.status == "failed", check.detail
    assert named is None or named in str(check.detail)


def require_passed(check: Check) -> None:
    """The check found nothing but another way to write the same."""
    assert (check.status, check.detail) == ("passed", "the same operations and constants; other bytes")


@contextmanager
def conversions_read_once(target: str, known: Collection[Path]) -> Iterator[None]:
    """These artifacts, against which hundreds of edited copies are held, are opened and hashed once.

    What is added to `known` later is meant too.
    """
    kind, kept = type(get_target(target)), dict[Path, Artifact]()
    opened = kind.open

    def once(own: Target, path: Path, function: str | None = None) -> Artifact:
        if path not in known:
            return opened(own, path, function)
        if path not in kept:
            kept[path] = opened(own, path, function)
        return kept[path]

    hashed = cache(artifact_sha256)

    def sha256(path: Path) -> str:
        return hashed(path) if path in known else artifact_sha256(path)

    with mock.patch.object(kind, "open", once), mock.patch.object(reproduction, "artifact_sha256", sha256):
        yield
