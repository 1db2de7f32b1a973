"""Modules that end a tower in something other than its embedding: at length 1, or in the probabilities of fixed
labels."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.labels import LabelSet
from mobileclip_deploy.artifacts.towers.tower import ImageTower, make_tower
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.folding import is_folded
from mobileclip_deploy.network.inputs import exact_texts
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.scores import TrainedHead
from mobileclip_deploy.network.model.tokenizer import encode


class Normalised(nn.Module):
    """A tower whose embeddings [N, D] have length 1."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: Tensor) -> Tensor:
        return unit_length(self.tower(inputs))


def unit_length(features: Tensor) -> Tensor:
    """Scales rows [N, D] to length 1, in float16 too.

    Each row is divided by its largest absolute value first. Otherwise squares may not fit into float16: 300 squared is
    more than its 65,504. A sum of a thousand squares fits even less. After the division each square is at most 1, one
    of them is 1, and their sum is between 1 and D. That fits, and its square root is far from 0.
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


class HeadClassifier(nn.Module):
    """RGB pixels [N, 3, S, S] float32 in [0, 1] -> probabilities [N, L] of a head that was trained on the tower."""

    weights: Tensor
    bias: Tensor

    def __init__(self, tower: ImageTower, head: TrainedHead) -> None:
        super().__init__()
        self.tower, self.normalised = tower, head.normalised
        self.register_buffer("weights", torch.from_numpy(head.weights.T.astype(np.float32)), persistent=False)
        self.register_buffer("bias", torch.from_numpy(head.bias.astype(np.float32)), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.tower(pixels)
        return torch.softmax((unit_length(features) if self.normalised else features) @ self.weights + self.bias, dim=1)


class OwnClassifier(nn.Module):
    """RGB pixels [N, 3, S, S] float32 in [0, 1] -> probabilities [N, L] of the classes that the network was trained on,
    rows that sum to 1."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.softmax(self.tower(pixels), dim=1)


def make_classifier(model: MobileCLIP, labels: LabelSet) -> Classifier | HeadClassifier:
    """Makes the classifier of a folded model, in eval mode: by its trained head if it has one.

    Raises:
        UsageError: the model is not folded, or lacks one of its towers.
    """
    tower = make_tower(model, "image")
    assert isinstance(tower, ImageTower)
    if model.trained_head is not None:
        return HeadClassifier(tower, model.trained_head).eval()
    embeddings = torch.from_numpy(label_embeddings(model, labels))
    return Classifier(tower, embeddings, model.logit_factor).eval()


def label_embeddings(model: MobileCLIP, labels: LabelSet) -> npt.NDArray[np.float32]:
    """Returns the text embeddings of the labels' prompts at length 1, computed in float64: [L, D].

    Raises:
        UsageError: the model has no text tower.
    """
    if "text" not in model.towers:
        raise UsageError("a classifier needs a text tower to embed its labels, and this checkpoint has none")
    cached = _LABELS.setdefault(model, {})
    key = (labels, is_folded(model))  # folding moves the last bits
    if key not in cached:
        template = labels.template_for(model.variant)
        prompts = [template.replace("{}", name) for name in labels.names]
        embeddings = exact_texts(model, encode(prompts, model.variant.tokens))
        cached[key] = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    return cached[key]


# Cache: a thousand labels take minutes in float64, and converting and checking need the same ones.
_LABELS: WeakKeyDictionary[MobileCLIP, dict[tuple[LabelSet, bool], npt.NDArray[np.float32]]] = WeakKeyDictionary()


def probabilities(model: MobileCLIP, labels: LabelSet, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the checkpoint's probabilities, in float64: its scores of the cosines with the labels, or its trained
    head's.

    Args:
        images: the checkpoint's image embeddings [N, D].

    Returns:
        [N, L].
    """
    rows = images.astype(np.float64)
    if model.trained_head is not None:
        return model.trained_head.of(rows)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return model.scores.of(rows @ label_embeddings(model, labels).astype(np.float64).T)
