"""Heads: what an exported tower answers with, an embedding or the probabilities of fixed labels.

A head of labels holds their text embeddings and the logit scale, so that the image tower alone classifies.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.folding import is_folded
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.tokenizer import encode
from mobileclip_deploy.model.variants import TowerName, Variant, no_text_tower
from mobileclip_deploy.towers import ImageTower, make_tower
from mobileclip_deploy.towers.inputs import exact_texts
from mobileclip_deploy.towers.labels import LabelSet, given_labels

__all__ = [
    "EMBEDDING",
    "Classifier",
    "Head",
    "Normalised",
    "OwnClassifier",
    "label_embeddings",
    "labels_json",
    "make_classifier",
    "probabilities",
    "read_head",
    "softmax",
]


def read_head(labels: str | Sequence[str] | None, template: str | None = None, normalise: bool = False) -> Head:
    """The head that a user's words ask for: an embedding, or with labels (see `given_labels`) their probabilities.

    Raises:
        UsageError: a template without labels, probabilities at length 1, or as `given_labels`.
    """
    if labels is None:
        if template is not None:
            raise UsageError("`template` is how `labels` are asked for; give both")
        return Head(normalised=normalise)
    if normalise:
        raise UsageError("`normalise` is for embeddings; probabilities of `labels` have no length: leave it out")
    return Head(given_labels(labels, template))


@dataclass(frozen=True)
class Head:
    """What a tower answers with: its embedding, as it is or scaled to length 1, or with labels the probability of
    each. `own`: the labels are the classes that the network itself was trained on (`Variant.classes`)."""

    labels: LabelSet | None = None
    normalised: bool = False
    own: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, in the order of the probabilities; none of an embedding."""
        return () if self.labels is None else self.labels.names

    def of(self, variant: Variant) -> Head:
        """The head of a variant's image tower: a classifier of its own classes is always that.

        Raises:
            UsageError: such a classifier, and labels or length 1 are asked for; or tokens, and length 1.
        """
        if variant.gives_tokens and self.normalised:
            raise UsageError(f"{variant.name} gives tokens, which have no length 1; leave `normalise` out")
        if variant.classes is None:
            return self
        if self.labels is not None or self.normalised:
            what = "`normalise`" if self.labels is None else "`labels`"
            raise UsageError(
                f"{variant.name} tells apart the {len(variant.class_names)} classes that it was trained on; leave "
                f"{what} out"
            )
        return Head(LabelSet(variant.class_names), own=True)

    def check(self, model: MobileCLIP, towers: Sequence[TowerName]) -> None:
        """Refuse labels where they cannot be embedded, or where a tower would be left over.

        Raises:
            UsageError: labels, and other towers than the image tower, or a checkpoint without a text tower.
        """
        if self.own or self.labels is None:
            return
        if model.variant.text is None:
            raise no_text_tower(model.variant.name)
        if tuple(towers) != ("image",) or "text" not in model.towers:
            raise UsageError(
                "a classifier is the image tower alone, and its labels need a checkpoint with a text tower"
            )

    def module(self, model: MobileCLIP, tower: TowerName, short: bool = False) -> nn.Module:
        """The tower of a folded model with this head, in eval mode: [N, ...] -> [N, D], or [N, L] with labels.

        Args:
            short: see `make_tower`.

        Raises:
            UsageError: the model is not folded, or lacks a tower.
        """
        if self.own:
            return OwnClassifier(make_tower(model, "image")).eval()
        if self.labels is not None:
            return make_classifier(model, self.labels)
        own = make_tower(model, tower, short)
        return Normalised(own).eval() if self.normalised else own

    def answers(self, model: MobileCLIP, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What a tower with this head should answer where the checkpoint's embeddings are these, [N, D]."""
        if self.own:
            return softmax(embeddings.astype(np.float64))
        return self.scaled(embeddings) if self.labels is None else probabilities(model, self.labels, embeddings)

    def scaled(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Embeddings [N, D] at the length at which they leave the artifact; computed in float64."""
        if not self.normalised:
            return embeddings
        rows = embeddings.astype(np.float64)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


EMBEDDING = Head()


class Normalised(nn.Module):
    """A tower whose embeddings [N, D] leave at length 1."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: Tensor) -> Tensor:
        return unit_length(self.tower(inputs))


def unit_length(features: Tensor) -> Tensor:
    """Rows [N, D] at length 1, in float16 too.

    Each row is divided by its largest value first. Squares of an embedding's values may not fit into float16 (300
    squared is more than its 65,504), and a sum of a thousand of them still less; after the division each square is at
    most 1, one of them is 1, and their sum is between 1 and D, which fits and has a square root that is far from 0.
    """
    features = features / features.abs().amax(dim=1, keepdim=True)
    return features / (features * features).sum(dim=1, keepdim=True).sqrt()


class Classifier(nn.Module):
    """RGB pixels [N, 3, S, S] float32 in [0, 1] -> probabilities [N, L], rows that sum to 1."""

    weights: Tensor

    def __init__(self, tower: ImageTower, embeddings: Tensor, logit_scale: float) -> None:
        super().__init__()
        self.tower = tower
        # [L, D] -> [D, L], with the temperature multiplied in: one product gives the logits.
        self.register_buffer("weights", (logit_scale * embeddings).T.contiguous(), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.softmax(unit_length(self.tower(pixels)) @ self.weights, dim=1)


class OwnClassifier(nn.Module):
    """RGB pixels [N, 3, S, S] float32 in [0, 1] -> probabilities [N, L] of the classes that the network was trained on,
    rows that sum to 1."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.softmax(self.tower(pixels), dim=1)


def make_classifier(model: MobileCLIP, labels: LabelSet) -> Classifier:
    """The classifier of a folded model, in eval mode.

    Raises:
        UsageError: the model is not folded, or lacks one of its towers.
    """
    tower = make_tower(model, "image")
    assert isinstance(tower, ImageTower)
    embeddings = torch.from_numpy(label_embeddings(model, labels))
    return Classifier(tower, embeddings, model.logit_factor).eval()


def label_embeddings(model: MobileCLIP, labels: LabelSet) -> npt.NDArray[np.float32]:
    """Text embeddings of the labels' prompts at length 1, computed in float64: [L, D].

    Raises:
        UsageError: the model has no text tower.
    """
    if "text" not in model.towers:
        raise UsageError("a classifier's labels are embedded by the text tower, which this checkpoint does not have")
    known = _LABELS.setdefault(model, {})
    key = (labels, is_folded(model))  # folding moves the last bits
    if key not in known:
        known[key] = _embedded(model, labels)
    return known[key]


# A thousand labels take minutes in float64, and converting and checking ask for the same ones.
_LABELS: WeakKeyDictionary[MobileCLIP, dict[tuple[LabelSet, bool], npt.NDArray[np.float32]]] = WeakKeyDictionary()


def _embedded(model: MobileCLIP, labels: LabelSet) -> npt.NDArray[np.float32]:
    template = labels.template_for(model.variant)
    prompts = [template.replace("{}", name) for name in labels.names]
    found = exact_texts(model, encode(prompts, model.variant.tokens))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def probabilities(model: MobileCLIP, labels: LabelSet, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the checkpoint answers, in float64: softmax of logit scale times cosine.

    Args:
        images: the checkpoint's image embeddings [N, D].

    Returns:
        [N, L].
    """
    rows = images.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return softmax(model.logit_factor * rows @ label_embeddings(model, labels).astype(np.float64).T)


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Softmax of rows [N, L]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def labels_json(labels: Sequence[str]) -> str:
    """labels.json: a list, in the order of the probabilities."""
    return json.dumps(list(labels), indent=2, ensure_ascii=False) + "\n"
