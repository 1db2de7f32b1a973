"""Minimum numbers of pictures for learning. Known before torch is imported, which takes seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.errors import InvalidInput

LEAST_BACKGROUND = 256
"""Minimum number of different background pictures."""
PICTURES_PER_NUMBER = 4
"""Minimum number of pictures per dimension of a smaller embedding."""


@dataclass(frozen=True)
class Needed:
    """Minimum number of pictures that a feature needs. `what` names the feature, as in "learned rounding"; `why`, in
    brackets, says the effect of fewer."""

    what: str
    pictures: int
    why: str = ""

    def check(self, folder: Path, files: Sequence[Path]) -> None:
        """Raises InvalidInput if there are too few pictures."""
        if len(files) < self.pictures:
            raise InvalidInput(
                f"{folder} holds {len(files)} pictures; {self.what} needs {self.pictures} at least, like those of the "
                f"app{self.why and ' ' + self.why}"
            )


# With 16 pictures nano's image tower became worse than without learning (18.3 dB against 21.2), and reached 25.0 dB on
# those 16 themselves. With 128 pictures it reached 22.8 dB, with 528 23.8 dB.
ROUNDING = Needed(
    "learned rounding",
    128,
    "(with few it makes a tower worse than `rounding='nearest'`, and the gates may not show it)",
)


def axes_pictures(size: int) -> Needed:
    """Returns the minimum number of pictures to fit the axes of an embedding of `size` dimensions."""
    return Needed(f"an embedding of {size} dimensions", PICTURES_PER_NUMBER * size)


def check_background(folder: Path, files: Sequence[Path]) -> None:
    """Raises InvalidInput if a folder of background pictures has too few files. Does not read them."""
    if not folder.is_dir():
        raise InvalidInput(f"`background` {folder}: no such folder; give one with pictures of all kinds")
    if len(files) < LEAST_BACKGROUND:
        raise InvalidInput(
            f"`background` {folder} holds {len(files)} pictures, and {LEAST_BACKGROUND} different ones are needed; "
            "give more, of all kinds"
        )
