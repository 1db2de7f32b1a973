"""The checkpoint's own embeddings, computed by torch."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import Preprocess, TowerName

BATCH = 32
# Float64 activations are twice as large.
EXACT_BATCH = 8


def normalize(x: Tensor, spec: Preprocess) -> Tensor:
    """Applies the variant's mean and std to RGB in [0, 1]: float32 [..., 3, H, W] in and out."""
    mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    return (x - mean) / std


@torch.no_grad()
def in_batches(compute: Callable[[Tensor], Tensor], values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Returns the answers of a network to rows of inputs, a few at a time."""
    return torch.cat([compute(batch) for batch in torch.from_numpy(values).split(BATCH)]).numpy()


def embed_images(model: MobileCLIP, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Embeds pixels [N, 3, S, S] in [0, 1] by the checkpoint itself: [N, D], not normalised."""
    return in_batches(lambda batch: model.encode_image(normalize(batch, model.variant.preprocess)), pixels)


def embed_texts(model: MobileCLIP, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Embeds token ids [N, L] by the checkpoint itself: [N, D], not normalised."""
    return in_batches(model.encode_text, ids)


def embed(model: MobileCLIP, tower: TowerName, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Embeds one tower's inputs by the checkpoint itself: [N, D], not normalised."""
    return embed_images(model, inputs.pixels) if tower == "image" else embed_texts(model, inputs.ids)


@torch.no_grad()
def embed_exactly(model: MobileCLIP, tower: TowerName, inputs: Inputs) -> npt.NDArray[np.float64]:
    """Computes embeddings in float64 arithmetic, the exact ones of the weights: [N, D], not normalised.

    Other processors and numbers of threads move them by about 1e-15, so that rounded to float32 they are the same
    everywhere. One tower is copied at a time: 8 bytes per parameter, 2.4 GB for the largest (ViT-L/14's image tower).
    """
    if tower == "text":
        return exact_texts(model, inputs.ids)
    assert model.image is not None
    network = copy.deepcopy(model.image).double()
    batches = torch.from_numpy(inputs.pixels).split(EXACT_BATCH)
    return torch.cat([network(normalize(batch.double(), model.variant.preprocess)) for batch in batches]).numpy()


@torch.no_grad()
def exact_texts(model: MobileCLIP, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Computes text embeddings of token ids [N, L] as `embed_exactly` does: [N, D]."""
    assert model.text is not None
    network = copy.deepcopy(model.text).double()
    return torch.cat([network(batch) for batch in torch.from_numpy(ids).split(EXACT_BATCH)]).numpy()
