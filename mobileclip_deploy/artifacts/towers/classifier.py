"""Modules that end a tower in something other than its embedding: at length 1, or in the probabilities of fixed
labels."""

from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.artifacts.heads.labels import LabelSet
from mobileclip_deploy.artifacts.towers.tower import ImageTower, make_tower
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.embedding import exact_texts
from mobileclip_deploy.network.folding import is_folded
from mobileclip_deploy.network.model.architecture import MobileCLIP
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
    """RGB pixels [N, 3, S, S] float32 in [0, 1] -> probabilities [N, L], rows that sum to 1.

    Args:
        rows: weights of the labels [L, D], with the temperature multiplied in: one product gives the logits.
        biases: [L], added to the logits.
        normalised: the tower's embedding is scaled to length 1 before the product.
    """

    weights: Tensor
    biases: Tensor | None

    def __init__(self, tower: ImageTower, rows: Tensor, biases: Tensor | None = None, normalised: bool = True) -> None:
        super().__init__()
        self.tower, self.normalised = tower, normalised
        self.register_buffer("weights", rows.T.contiguous(), persistent=False)  # [L, D] -> [D, L]
        self.register_buffer("biases", biases, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.tower(pixels)
        logits = (unit_length(features) if self.normalised else features) @ self.weights
        return torch.softmax(logits if self.biases is None else logits + self.biases, dim=1)


def make_classifier(model: MobileCLIP, labels: LabelSet, learned: LabelHead | None = None) -> Classifier:
    """Makes the classifier of a folded model, in eval mode: of the checkpoint's trained head, of learned rows, or of
    the labels' texts.

    Raises:
        UsageError: the model is not folded, or lacks one of its towers.
    """
    tower = make_tower(model, "image")
    assert isinstance(tower, ImageTower)
    head = model.trained_head or (None if learned is None else learned.trained)
    if head is not None:
        rows, biases = (torch.from_numpy(values.astype(np.float32)) for values in (head.weights, head.bias))
        return Classifier(tower, rows, biases, head.normalised).eval()
    embeddings = torch.from_numpy(label_embeddings(model, labels))
    return Classifier(tower, model.logit_factor * embeddings).eval()


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
