"""Edits of an artifact's file: what they have in common, whatever the format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import Graph, first_difference

File = TypeVar("File")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Edit(Generic[File]):
    """A change of a file. `plant` changes the opened file, and gives what has to be named; None where nothing of it has
    a name.

    `files`: tower and precision of those that it is planted in, so that every way to store the same is.
    """

    name: str
    plant: Callable[[File], str | None]
    files: tuple[tuple[TowerName, str], ...]

    def __str__(self) -> str:
        return self.name


def said_of(target: str, path: Path, healthy: Graph) -> str | None:
    """What tells a file from the graph that it should be, or why it cannot be read; None where nothing does."""
    try:
        graph = get_target(target).open(path).graph
    except InvalidInput as error:
        return str(error)
    difference = first_difference(graph, healthy)
    return None if difference is None else difference.describe()


def renumbered(stored: bytes, dtype: str, change: Callable[[Array], None]) -> bytes:
    """The bytes of an array with other numbers in it."""
    values = np.frombuffer(stored, dtype).copy()
    change(values)
    return values.tobytes()
