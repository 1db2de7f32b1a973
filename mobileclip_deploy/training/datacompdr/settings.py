"""What a recipe says of published reinforced shards that they do not say themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator

from mobileclip_deploy.errors import WHY, refusing
from mobileclip_deploy.training.reinforcement.index import TeacherEntry


def _beside(path: Path, told: ValidationInfo) -> Path:
    return path if told.context is None else Path(told.context["folder"]) / path


Beside = Annotated[Path, AfterValidator(_beside)]
"""A path in a recipe: relative to the folder of the recipe's file."""


class PublishedTeacher(BaseModel, frozen=True, extra="forbid"):
    """One teacher: how many of the values of an embedding are its own, and the factor of its cosines."""

    embed_dim: int = Field(gt=0)
    scale: float = Field(gt=0)

    def entry(self) -> TeacherEntry:
        """As the index of a reinforced dataset names a teacher; what shards do not tell stays empty."""
        return TeacherEntry(file="", sha256="", variant="", embed_dim=self.embed_dim, image_size=224, scale=self.scale)


class ShardSettings(BaseModel, frozen=True, extra="forbid"):
    """Settings of a training on published shards. `images` is the folder of shards with the images and true captions,
    where these are not in the reinforced shards. `teachers` lie one after another in each embedding; where left
    out, those that an index.json beside the shards names, else DataCompDR's. `captions` is a regular expression of the
    keys of synthetic captions that are used, one of which is drawn for each sample. With `mix_synthetic` a sample has
    one caption instead of two, a synthetic one in that share of cases. `skip_bad` leaves out what is damaged instead of
    refusing it."""

    images: Beside | None = None
    teachers: tuple[PublishedTeacher, ...] | None = Field(default=None, min_length=1)
    captions: str = "^syn_text"
    mix_synthetic: float | None = Field(default=None, ge=0, le=1)
    skip_bad: bool = False

    @field_validator("captions")
    @classmethod
    def _expression(cls, value: str) -> str:
        with refusing(WHY, re.error, into=ValueError):
            re.compile(value)
        return value
