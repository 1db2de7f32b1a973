"""The index of a reinforced dataset: what it was made from, by which teachers, and which shards are complete."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mobileclip_deploy.errors import InvalidInput, first_problem
from mobileclip_deploy.files import read_json, write_whole
from mobileclip_deploy.learning.reinforcement.augmentation import PARAMETERS, AugmentationPolicy

__all__ = ["INDEX", "PAIRS", "Index", "ShardEntry", "TeacherEntry", "read_index", "text_sha256"]

INDEX = "index.json"
PAIRS = "pairs.jsonl"
VERSION = 1


class TeacherEntry(BaseModel):
    """One teacher. `scale` is the factor of its cosines, `image_size` what it saw the augmented images at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str
    variant: str
    embed_dim: int
    image_size: int
    scale: float


class ShardEntry(BaseModel):
    """One file of `rows` pairs, the first of which is number `first`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: str
    first: int
    rows: int


class Index(BaseModel):
    """index.json; the format is described in docs/reinforcement.md.

    `images` is the folder that the pairs' images are relative to, `augmentations` how many each image has. A dataset
    is complete when its shards hold all `rows`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["mobileclip-deploy/reinforced"] = "mobileclip-deploy/reinforced"
    version: Literal[1] = 1
    images: str
    rows: int
    pairs_sha256: str
    augmentations: int
    parameters: tuple[str, ...] = PARAMETERS
    policy: AugmentationPolicy
    seed: int
    shard_rows: int
    dtype: Literal["bfloat16"] = "bfloat16"
    teachers: tuple[TeacherEntry, ...]
    shards: tuple[ShardEntry, ...] = ()

    @property
    def stored(self) -> int:
        """How many pairs the shards hold."""
        return sum(shard.rows for shard in self.shards)

    def request(self) -> dict[str, object]:
        """What decides the content, without what has been done of it or where the images lie."""
        return self.model_dump(exclude={"shards", "images"})

    def write(self, folder: Path) -> None:
        """Write index.json; whole or as it was."""
        write_whole(folder / INDEX, self.model_dump_json(indent=2) + "\n")


def read_index(folder: Path) -> Index:
    """The index of a reinforced dataset.

    Raises:
        InvalidInput: there is none, it is damaged, or it is of another version.
    """
    file = folder / INDEX
    try:
        return Index.model_validate(read_json(file))
    except FileNotFoundError:
        raise InvalidInput(
            f"{folder} is no reinforced dataset: it has no {INDEX}; make one with `mobileclip-deploy reinforce`"
        ) from None
    except ValidationError as error:
        raise InvalidInput(
            f"{file} is damaged or of another version than {VERSION} ({first_problem(error)}); "
            "make the dataset again in another folder"
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error


def text_sha256(text: str) -> str:
    """Of a text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
