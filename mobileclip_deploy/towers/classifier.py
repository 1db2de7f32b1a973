"""An image tower that answers with probabilities of fixed labels: their embeddings and the logit scale are inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.tokenizer import tokenize
from mobileclip_deploy.model.variants import Variant
from mobileclip_deploy.towers import ImageTower, make_tower
from mobileclip_deploy.towers.inputs import embed_texts
from mobileclip_deploy.towers.labels import parse_labels

__all__ = [
    "Classifier",
    "LabelSet",
    "label_embeddings",
    "labels_json",
    "make_classifier",
    "probabilities",
    "read_labels",
]


@dataclass(frozen=True)
class LabelSet:
    """What a classifier tells apart: labels, and the prompt that stands for one, with `{}` where it goes; the
    variant's own where it is None.

    Raises:
        UsageError: fewer than two labels, or a template without `{}`.
    """

    names: tuple[str, ...]
    template: str | None = None

    def __post_init__(self) -> None:
        if self.template is not None and "{}" not in self.template:
            raise UsageError(f"the template {self.template!r} has no {{}} for the label")
        if len(self.names) < 2:
            raise UsageError("a classifier needs two labels or more (--labels)")

    def template_for(self, variant: Variant) -> str:
        """The template, settled."""
        return variant.template if self.template is None else self.template


def read_labels(text: str, template: str | None = None) -> LabelSet:
    """`a,b,c`, or the path of a text file with one label a line.

    Args:
        template: with `{}` where the label goes; the variant's own when None.

    Raises:
        UsageError: fewer than two labels, one twice, or a template without `{}`.
        InvalidInput: the file cannot be read as UTF-8.
    """
    path = Path(text)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--labels {text}: cannot be read as UTF-8 text: {error}") from error
    if lines is None and "," not in text:
        raise UsageError(f"--labels {text}: no such file, and no list like cat,dog,car")
    return LabelSet(tuple(parse_labels(lines if lines is not None else text.split(","))), template)


class Classifier(nn.Module):
    """RGB pixels [N, 3, S, S] float32 in [0, 1] -> probabilities [N, L], rows that sum to 1."""

    weights: Tensor

    def __init__(self, tower: ImageTower, embeddings: Tensor, logit_scale: float) -> None:
        super().__init__()
        self.tower = tower
        # [L, D] -> [D, L], with the temperature multiplied in: one product gives the logits.
        self.register_buffer("weights", (logit_scale * embeddings).T.contiguous(), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        # Divided by the largest first: squares of an embedding's values may not fit into float16.
        features = self.tower(pixels)
        features = features / features.abs().amax(dim=1, keepdim=True)
        features = features / (features * features).sum(dim=1, keepdim=True).sqrt()
        return torch.softmax(features @ self.weights, dim=1)


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
    """Text embeddings of the labels' prompts at length 1: [L, D].

    Raises:
        UsageError: the model has no text tower.
    """
    if "text" not in model.towers:
        raise UsageError("a classifier's labels are embedded by the text tower, which this checkpoint does not have")
    template = labels.template_for(model.variant)
    prompts = [template.replace("{}", name) for name in labels.names]
    found = embed_texts(model, tokenize(prompts, model.variant.tokenizer.context_length))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def probabilities(model: MobileCLIP, labels: LabelSet, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the checkpoint answers, in float64: softmax of logit scale times cosine.

    Args:
        images: the checkpoint's image embeddings [N, D].

    Returns:
        [N, L].
    """
    rows = images.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    logits = model.logit_factor * rows @ label_embeddings(model, labels).astype(np.float64).T
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def labels_json(labels: Sequence[str]) -> str:
    """labels.json: a list, in the order of the probabilities."""
    return json.dumps(list(labels), indent=2, ensure_ascii=False) + "\n"
