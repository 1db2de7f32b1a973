"""A learned head of labels: rows and biases of a classifier, thresholds, and the file that contains them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from mobileclip_deploy.base.files import content_sha256
from mobileclip_deploy.base.files.arrays import Bytes, Doubles, Floats
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.names import Name, Sha256
from mobileclip_deploy.base.files.tensors import read_tensors, write_tensors
from mobileclip_deploy.errors import REASON, InvalidInput, reraising
from mobileclip_deploy.network.model.prompts import Labels, Template
from mobileclip_deploy.network.model.scores import TrainedHead

NONE = "none of these"
"""Last label of a learned head."""
LABEL_HEAD = "labels.safetensors"
LARGEST_RATIO = 1e6
LEAST_PROBABILITY = 1e-6
"""Probability below which a label is absent, whatever that of "none of these" is: float16 has few smaller values."""
Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(ge=0, le=LARGEST_RATIO)]


class Thresholds(BaseModel, frozen=True, extra="forbid"):
    """Rule that says which labels are present, and its measured effect.

    A label is present if its probability is at least `ratios` times that of "none of these", at least `share` times
    that of the most probable label, and at least 1e-6.

    Attributes:
        ratios: one for each label, without "none of these".
        method: how the rows were learned.
        examples, background: numbers of different pictures that they were learned from.
        pictures_sha256: of `LabelHead.digests`.
        aim: requested share of pictures without a label that get one.
        false_tags, true_tags: that share, and the share of examples that get their label, on held-out pictures.
        right: share of held-out examples whose most probable label is theirs; `texts_right`: by the texts alone. None
            without texts.
    """

    ratios: tuple[Ratio, ...] = Field(min_length=2)
    share: Share = 0.1
    method: Name
    examples: int = Field(ge=1)
    background: int = Field(ge=0)
    pictures_sha256: Sha256
    aim: float = Field(gt=0, lt=1)
    false_tags: Share
    true_tags: Share
    right: Share
    texts_right: Share | None = None

    def present(self, probabilities: Floats) -> list[int]:
        """Returns the indices of the labels that are present, the most probable first.

        Args:
            probabilities: of all labels, then of "none of these" [L + 1].
        """
        labels, none = np.asarray(probabilities[:-1], np.float64), float(probabilities[-1])
        least = np.maximum(np.array(self.ratios) * none, max(self.share * float(labels.max()), LEAST_PROBABILITY))
        return [int(index) for index in np.argsort(-labels, kind="stable") if labels[index] >= least[index]]


class _Description(BaseModel, frozen=True, extra="forbid"):
    """Metadata of the file. `template`: of the labels' prompts; None if they were learned from pictures alone."""

    format: Literal["mobileclip-deploy labels 1"] = "mobileclip-deploy labels 1"
    embedding_space: Name
    labels: Labels = Field(min_length=2)
    template: Template | None = None
    thresholds: Thresholds


@dataclass(frozen=True, eq=False)
class LabelHead:
    """A learned head: probabilities of labels and of "none of these" from an image embedding.

    Attributes:
        labels: L names, without "none of these".
        weights, biases: [L + 1, D] and [L + 1] of the logits of an embedding of length 1; the last are of "none of
            these".
        embedding_space: of the embeddings that it was learned on.
        template: of the labels' prompts; None if they were learned from pictures alone.
        notes: sentences on what was left out while learning.
        digests: sorted first eight bytes of the SHA-256 of each picture that they were learned from [N, 8].
    """

    labels: tuple[str, ...]
    weights: Floats
    biases: Floats
    thresholds: Thresholds
    embedding_space: str
    template: str | None = None
    notes: tuple[str, ...] = ()
    digests: Bytes = field(default_factory=lambda: digest_rows([]))

    @property
    def names(self) -> tuple[str, ...]:
        """Labels, then "none of these"."""
        return (*self.labels, NONE)

    @property
    def trained(self) -> TrainedHead:
        """Weights and biases as those of any head on embeddings of length 1."""
        return TrainedHead(self.weights.astype(np.float64), self.biases.astype(np.float64), normalised=True)

    def fitting(self, dimension: int) -> LabelHead:
        """Returns the head itself if it takes embeddings of this dimension.

        Raises:
            InvalidInput: it takes others.
        """
        if self.weights.shape[1] != dimension:
            raise InvalidInput(
                f"the labels were learned on embeddings of {self.weights.shape[1]} dimensions, not {dimension}; learn "
                "them again"
            )
        return self

    def probabilities(self, images: Floats | Doubles) -> Floats:
        """Returns probabilities [N, L + 1] for image embeddings [N, D] of any length."""
        return self.trained.of(images.astype(np.float64))

    def tags(self, images: Floats | Doubles) -> tuple[tuple[str, ...], ...]:
        """Returns the labels that are present in each of the images, the most probable first.

        Args:
            images: embeddings [N, D], of any length.
        """
        rows = self.probabilities(images)
        return tuple(tuple(self.names[index] for index in self.thresholds.present(row)) for row in rows)

    def save(self, path: Path) -> None:
        """Writes the file.

        Raises:
            InvalidInput: the folder is missing or not writable, or the disk is full.
        """
        description = _Description(
            embedding_space=self.embedding_space,
            labels=self.labels,
            template=self.template,
            thresholds=self.thresholds,
        )
        tensors = {name: getattr(self, name) for name in ("weights", "biases", "digests")}
        write_tensors(path, tensors, {"labels": description.model_dump_json(exclude_none=True)})

    @classmethod
    def read(cls, path: Path) -> LabelHead:
        """Reads a file that `save` wrote.

        Raises:
            InvalidInput: not such a file, or a damaged one.
        """
        refusal = f"{path} is not a valid file of labels ({REASON}); learn them again"
        tensors, metadata = read_tensors(path, refusal)
        with reraising(refusal, KeyError, ValidationError):
            description = parse_model(_Description, metadata["labels"])
            weights, biases, digests = (tensors[name] for name in ("weights", "biases", "digests"))
        rule, rows = description.thresholds, len(description.labels) + 1
        shapes = weights.shape[:1] == biases.shape == (rows,) and digests.shape == (rule.examples + rule.background, 8)
        types = weights.dtype == biases.dtype == np.float32 and digests.dtype == np.uint8
        sound = shapes and types and weights.ndim == 2 and np.isfinite(weights).all() and np.isfinite(biases).all()
        same = content_sha256(digests.tobytes()) == rule.pictures_sha256 and len(rule.ratios) == rows - 1
        if not sound or not same or NONE in description.labels:
            raise InvalidInput(refusal.replace(REASON, "its labels, rows, thresholds and pictures do not match"))
        space, template = description.embedding_space, description.template
        return cls(description.labels, weights, biases, rule, space, template, digests=digests)


def digest_rows(hashes: Iterable[str]) -> Bytes:
    """Returns the sorted first eight bytes [N, 8] of hexadecimal hashes."""
    return np.frombuffer(bytearray.fromhex("".join(sorted(text[:16] for text in hashes))), np.uint8).reshape(-1, 8)
