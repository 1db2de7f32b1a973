"""Origin of a model's weights; carried from the checkpoint into every manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt

from mobileclip_deploy.base.files.names import LongPath, Name, Prose, Sha256


class Recovered(BaseModel, frozen=True, extra="forbid"):
    """Record of towers that `recover` of version 0.4.0 or earlier trained for the `precisions` of a target.
    `source_file` and its hashes: of the checkpoint whose embeddings they were trained to reproduce."""

    precisions: dict[Name, Name]
    target: Name = "coreml"  # in files from before it was recorded
    source_file: LongPath
    source_sha256: Sha256
    source_weights: Sha256 | None = None

    def refusal(self, path: Path) -> str:
        """Returns the error text for a checkpoint or bundle with such towers."""
        return (
            f"{path} has weights that `recover` trained, which only version 0.4.0 reads and verifies; use that "
            f"version, or export {self.source_file} with `rounding='tuned'`"
        )


class Compacted(BaseModel, frozen=True, extra="forbid"):
    """Record of projections cut to `size` axes, from the checkpoint's `full_size` dimensions, whose embedding space is
    `from_space`.

    `axes_sha256`: of the axes' values (`tensors_sha256`), which are stored with the model. `fit`: the method that
    fitted them (`spaces.axes`) to `pictures` and `captions`, whose SHA-256 is `fitted_sha256`. `own_captions`: False
    for the packaged prompts. `logit_scale`: the factor of cosines before a softmax, fitted again (`full_logit_scale` is
    the checkpoint's). `int8_scale`: of an index; an int8 integer times it is a component of a unit vector. `clipped`:
    share (0 to 1) of the fitting pictures' components that were beyond it.
    """

    size: PositiveInt
    full_size: PositiveInt
    from_space: Name
    axes_sha256: Sha256
    fit: Literal["mean"]
    pictures: PositiveInt
    captions: PositiveInt
    own_captions: bool
    fitted_sha256: Sha256
    logit_scale: PositiveFloat
    full_logit_scale: PositiveFloat
    int8_scale: PositiveFloat
    clipped: float = Field(ge=0, le=1)

    @property
    def space(self) -> str:
        """Suffix for the name of an embedding space."""
        return f"-e{self.size}-{self.axes_sha256[:8]}"


class Distilled(BaseModel, frozen=True, extra="forbid"):
    """Record of a text tower distilled from that of another checkpoint, for texts in other `languages` (codes, such as
    "de"), with its own vocabulary. The image tower is the other checkpoint's, and so is the embedding space.

    `cut_from`: number of pieces of the other checkpoint's vocabulary, if the text tower is that checkpoint's own with a
    vocabulary cut to the languages; None if the vocabulary was learned.

    `source_file`, `source_sha256`, `source_weights`: of that checkpoint, as in `Provenance`. `image_sha256`: of the
    image tower's tensors (`tensors_sha256`), checked at opening. `form`: the variant whose text tower has the student's
    form; None for the teacher's form.
    """

    languages: tuple[Name, ...]
    source_file: LongPath
    source_sha256: Sha256
    source_weights: Sha256
    image_sha256: Sha256
    form: Name | None = None
    cut_from: PositiveInt | None = None


class TakenPreprocess(BaseModel, frozen=True, extra="forbid"):
    """Chosen preprocessing of pictures: `taken_from` is "card" (the variant's own), "openai", or the name of the file
    that set it. Resize and crop are the variant's."""

    taken_from: LongPath
    mean: tuple[float, float, float]
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    interpolation: Literal["bilinear", "bicubic"]

    @property
    def space(self) -> str:
        """Suffix for the name of an embedding space; empty for the variant's own."""
        values = f"{self.mean} {self.std} {self.interpolation}"
        return "" if self.taken_from == "card" else f"-{hashlib.sha256(values.encode()).hexdigest()[:8]}"


class Provenance(BaseModel, frozen=True, extra="forbid"):
    """The source checkpoint of a model. `layout` is the source's own, also for a folded copy of it.

    `sha256` is the file's, `weights` that of its tensors (`tensors_sha256`), the same in every kind of file; None in
    files of earlier versions. `towers` are those of the checkpoint. `image_size` is set if it is not the variant's own.
    `notes` are sentences for the user: assumptions, ignored parts and changes between the file and the model.
    `preprocess` is set if the preprocessing was chosen. `recovered` is set in files of earlier versions alone, and
    refused. `compacted` is set if both projections were cut to fewer dimensions: `file`, `sha256` and `weights` stay
    those of the checkpoint. `distilled` is set if the text tower was distilled for other languages.
    """

    variant: Name
    layout: Name
    sha256: Sha256
    file: LongPath
    licence: Name
    research_only: bool
    builtin: bool = False
    repository: Name | None = None
    revision: Name | None = None
    towers: tuple[Name, ...] = ("image", "text")
    image_size: int | None = None
    notes: tuple[Prose, ...] = ()
    preprocess: TakenPreprocess | None = None
    recovered: Recovered | None = None
    weights: Sha256 | None = None
    compacted: Compacted | None = None
    distilled: Distilled | None = None

    def sentences(self) -> Iterator[str]:
        """Yields the checkpoint, its licence and the assumptions about it in words."""
        which = "the built-in checkpoint nano" if self.builtin else f"{self.file}: {self.variant}"
        yield f"Using {which} ({self.layout} layout, licence of the weights: {self.licence})."
        yield from (f"Note: {text}" for text in self.notes)

    @property
    def embedding_space(self) -> str:
        """Id of the source checkpoint's weights and preprocessing; embeddings with different ids must not be compared.
        Distilled text towers stay in their source's space. If the weights have no hash, the file's is used."""
        source = self.distilled.source_weights if self.distilled else self.weights or self.sha256
        pictures = self.preprocess.space if self.preprocess else ""
        return f"{self.variant}-{source[:16]}{pictures}{self.compacted.space if self.compacted else ''}"

    @property
    def text_form(self) -> str | None:
        """Variant whose text tower has this one's form. None for the card's form."""
        return None if self.distilled is None else self.distilled.form

    @property
    def content(self) -> str:
        """Hash that identifies this model's weights: the file's SHA-256, and that of the axes it was cut to."""
        return self.sha256 + ("" if self.compacted is None else f"-{self.compacted.axes_sha256}")

    def same_weights(self, other: Provenance) -> bool:
        """Returns whether both have the same weights: the same file, or another one with the same tensors."""
        return self.sha256 == other.sha256 or (self.weights is not None and self.weights == other.weights)


def tensors_sha256(tensors: Mapping[str, npt.NDArray[np.generic]]) -> str:
    """Returns the SHA-256 of names, dtypes, shapes and bytes of tensors, in the order of the names. It identifies
    weights, whatever file holds them."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype.str} {list(values.shape)}\n".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def weight_sha256(values: npt.NDArray[np.generic]) -> str:
    """Returns the SHA-256 of a weight's float16 values. It identifies a weight in an artifact, whatever its name
    there."""
    return hashlib.sha256(np.ascontiguousarray(values, dtype=np.float16).tobytes()).hexdigest()
