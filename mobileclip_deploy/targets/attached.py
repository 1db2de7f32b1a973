"""What was written beside an artifact because it was asked for, opened: held to its origin, and run where it can be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from mobileclip_deploy.targets.values import Expected, Runner


@dataclass(frozen=True)
class Origin:
    """What an attachment should have been made of.

    Attributes:
        artifact: the file beside which it stands.
        expected: what it is to answer.
        folder: an empty one, to write into.
        converted: the artifact written once more, with what a conversion writes beside it. Raises NotRun.
    """

    artifact: Path
    expected: Expected
    folder: Path
    converted: Callable[[], Path]


class Attached(ABC):
    """An attachment of one kind; made by `Target.open_attached`.

    Attributes:
        by_conversion: only a conversion of the tower writes it, which takes long.
        tolerates: the manifest says by how much one value of an answer may differ from an expected one.
        by_versions: another version of the packages may write it otherwise, so that a difference says nothing there.
    """

    by_conversion: ClassVar[bool] = False
    tolerates: ClassVar[bool] = True
    by_versions: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def write(self, artifact: Path, expected: Expected) -> None:
        """Write it, of the artifact beside which it is to stand.

        Raises:
            ExportError: it cannot be written, or does not hold.
        """

    def runner(self) -> Runner | None:
        """Load it; None of what is no program.

        Raises:
            NotRun, RuntimeFailed: nothing here can run it.
            InvalidInput: it is damaged.
        """
        return None

    @abstractmethod
    def difference(self, origin: Origin) -> str | None:
        """How it is not what comes of its origin, in words; None where it says the same.

        Raises:
            InvalidInput: it is damaged.
            NotRun: what writes it is not here.
            ExportError: it cannot be written again.
        """
