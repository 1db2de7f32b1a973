"""The index of a reinforced dataset: its pairs, settings and teachers, and the complete shards."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from mobileclip_deploy.base.files import read_model, write_whole
from mobileclip_deploy.base.files.names import LongPath, Name, PlainPath, Sha256
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.training.reinforcement.policy import PARAMETERS, AugmentationPolicy

INDEX = "index.json"
PAIRS = "pairs.jsonl"
OURS: Literal["mobileclip-deploy/reinforced"] = "mobileclip-deploy/reinforced"
PUBLISHED: Literal["mobileclip-deploy/datacompdr"] = "mobileclip-deploy/datacompdr"


class TeacherEntry(BaseModel, frozen=True, extra="forbid"):
    """One teacher. `scale` is the factor of its cosines, `image_size` the size at which it saw the augmented images.
    `weights`: the hash of its tensors, the same in every file that holds them; None in files of earlier versions."""

    file: LongPath
    sha256: Sha256 | Literal[""]
    variant: Name
    embed_dim: int
    image_size: int
    scale: float
    weights: Sha256 | None = None

    def answers_as(self, other: TeacherEntry) -> bool:
        """Returns whether both give the same embeddings for every pair: equal weights, from whatever file, used
        alike."""
        use = {"variant", "embed_dim", "image_size", "scale"}
        same = self.sha256 == other.sha256 or (self.weights is not None and self.weights == other.weights)
        return same and self.model_dump(include=use) == other.model_dump(include=use)


class ShardEntry(BaseModel, frozen=True, extra="forbid"):
    """One file of `rows` pairs; `first` is the index of the first pair."""

    file: PlainPath
    sha256: Sha256
    first: int
    rows: int


class ShardIndex(BaseModel, frozen=True, extra="forbid"):
    """index.json; the format is described in docs/reinforcement.md. With shards in the published form it adds teachers
    and completeness, which those lack. Augmentations are then the published ones, without `parameters` and policy.

    `images` is the folder that the pairs' images are relative to, `augmentations` the number per image. A dataset is
    complete when its shards hold all `rows`.
    """

    format: Literal["mobileclip-deploy/reinforced", "mobileclip-deploy/datacompdr"] = OURS
    version: Literal[1] = 1
    images: LongPath
    rows: int
    pairs_sha256: Sha256
    augmentations: int
    parameters: tuple[Name, ...] = PARAMETERS
    policy: AugmentationPolicy | None
    seed: int
    shard_rows: int
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    teachers: tuple[TeacherEntry, ...]
    shards: tuple[ShardEntry, ...] = ()

    @property
    def stored(self) -> int:
        """Number of pairs in the shards."""
        return sum(shard.rows for shard in self.shards)

    def differences(self, other: ShardIndex) -> list[str]:
        """Returns names of the fields that decide the content and differ. Completed shards and the images' folder are
        not compared."""
        pairs = zip(self.teachers, other.teachers, strict=False)
        same = len(self.teachers) == len(other.teachers) and all(mine.answers_as(theirs) for mine, theirs in pairs)
        mine, theirs = (index.model_dump(exclude={"shards", "images", "teachers"}) for index in (self, other))
        return [name for name, value in mine.items() if theirs[name] != value] + ([] if same else ["teachers"])

    def require_complete(self, folder: Path) -> None:
        """Checks that no shard is missing.

        Raises:
            InvalidInput: shards are missing.
        """
        if self.stored != self.rows:
            raise InvalidInput(
                f"{folder} has {self.stored} of {self.rows} pairs; repeat the same `mobileclip-deploy reinforce`, "
                "which resumes"
            )

    def write(self, folder: Path) -> None:
        """Writes index.json, atomically."""
        write_whole(folder / INDEX, self.model_dump_json(indent=2) + "\n")


def read_index(folder: Path) -> ShardIndex:
    """Reads the index of a reinforced dataset.

    Raises:
        InvalidInput: missing, damaged, or of another version.
    """
    missing = f"{folder} is not a reinforced dataset (it has no {INDEX}); create one with `mobileclip-deploy reinforce`"
    return read_model(ShardIndex, folder / INDEX, missing, "; create the dataset again in another folder")
