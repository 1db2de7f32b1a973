"""Recipe settings for published reinforced shards, which the shards themselves lack."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator

from mobileclip_deploy.errors import REASON, reraising
from mobileclip_deploy.training.reinforcement.index import TeacherEntry


def _beside(path: Path, told: ValidationInfo) -> Path:
    return path if told.context is None else Path(told.context["folder"]) / path


Beside = Annotated[Path, AfterValidator(_beside)]
"""A path in a recipe: relative to the folder of the recipe's file."""


class PublishedTeacher(BaseModel, frozen=True, extra="forbid"):
    """One teacher: the number of an embedding's values that are its own, and the factor of its cosines."""

    embed_dim: int = Field(gt=0)
    scale: float = Field(gt=0)

    def entry(self) -> TeacherEntry:
        """Returns an index entry for this teacher; fields that shards do not contain stay empty."""
        return TeacherEntry(file="", sha256="", variant="", embed_dim=self.embed_dim, image_size=224, scale=self.scale)


class ShardSettings(BaseModel, frozen=True, extra="forbid"):
    """Settings of a training on published shards. `images`: folder of the shards with images and true captions, if
    these are not in the reinforced shards. `teachers`: their values are concatenated in each embedding. When left out,
    they are those of an index.json next to the shards, else DataCompDR's. `captions`: regular expression of the keys of
    usable synthetic captions; one is drawn for each sample. With `mix_synthetic` a sample has one caption and
    not two, a synthetic one in that share of cases. `skip_bad` leaves out damaged samples instead of refusing them."""

    images: Beside | None = None
    teachers: tuple[PublishedTeacher, ...] | None = Field(default=None, min_length=1)
    captions: str = "^syn_text"
    mix_synthetic: float | None = Field(default=None, ge=0, le=1)
    skip_bad: bool = False

    @field_validator("captions")
    @classmethod
    def _expression(cls, value: str) -> str:
        with reraising(REASON, re.error, into=ValueError):
            re.compile(value)
        return value
