"""How many pictures something is learned from at least: known before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput

LEAST_BACKGROUND = 256
"""Different background pictures, at least."""
PICTURES_PER_NUMBER = 4
"""Pictures per number of a smaller embedding, at least."""


@dataclass(frozen=True)
class Needed:
    """How many pictures something takes at least. `what` it is, as in "learned rounding"; `why`: what comes of fewer,
    in brackets."""

    what: str
    pictures: int
    why: str = ""

    def check(self, folder: Path, files: Sequence[Path]) -> None:
        """Refuse too few by an InvalidInput."""
        if len(files) < self.pictures:
            raise InvalidInput(
                f"{folder} holds {len(files)} pictures; {self.what} needs {self.pictures} at least, like those of the "
                f"app{self.why and ' ' + self.why}"
            )


# With 16 pictures nano's image tower became worse than without learning (18.3 dB against 21.2), and was 25.0 on those
# 16 themselves; with 128 pictures 22.8, with 528 23.8.
ROUNDING = Needed(
    "learned rounding",
    128,
    "(with few it makes a tower worse than `rounding='nearest'`, and the gates may not show it)",
)


def axes_pictures(size: int) -> Needed:
    """What axes of an embedding of `size` numbers are fitted to."""
    return Needed(f"an embedding of {size} numbers", PICTURES_PER_NUMBER * size)


def check_background(folder: Path, files: Sequence[Path]) -> None:
    """Refuse by an InvalidInput a folder of background pictures with too few files in it, whatever they show."""
    if not folder.is_dir():
        raise InvalidInput(f"`background` {folder}: no such folder; give one with pictures of all kinds")
    if len(files) < LEAST_BACKGROUND:
        raise InvalidInput(
            f"`background` {folder} holds {len(files)} pictures, and {LEAST_BACKGROUND} different ones are needed; "
            "give more, of all kinds"
        )
