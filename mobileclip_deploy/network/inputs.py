"""Real images and prompts that towers are measured on, and the checkpoint's own embeddings of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.tokenizer import CLIP, encode
from mobileclip_deploy.network.model.variants import Preprocess, TowerName
from mobileclip_deploy.network.samples import image_paths, prompts

BATCH = 32
# Float64 activations are twice as large.
EXACT_BATCH = 8


@dataclass(frozen=True)
class Inputs:
    """Inputs of both towers: pixels float32 [N, 3, S, S] in [0, 1] and ids int64 [M, L]. Without a text tower there are
    no ids."""

    images: tuple[str, ...]
    prompts: tuple[str, ...]
    pixels: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]

    def of(self, tower: TowerName) -> npt.NDArray[np.generic]:
        """Returns the input of one tower."""
        return self.pixels if tower == "image" else self.ids

    def some(self, tower: TowerName, rows: npt.NDArray[np.intp]) -> Inputs:
        """Returns a copy with only these of one tower's inputs, by index."""
        if tower == "image":
            return replace(self, images=tuple(self.images[row] for row in rows), pixels=self.pixels[rows])
        return replace(self, prompts=tuple(self.prompts[row] for row in rows), ids=self.ids[rows])


def sample_inputs(model: MobileCLIP, images: Sequence[Path] = (), texts: Sequence[str] = ()) -> Inputs:
    """Preprocesses and tokenizes for the model's variant; packaged samples replace missing images or texts.

    Raises:
        InvalidInput: an image cannot be used, or a vocabulary that is not the tokenizer's (`encode`).
    """
    paths = list(images) or image_paths()
    texts = list(texts) or prompts()
    return Inputs(
        images=tuple(path.name for path in paths),
        prompts=tuple(texts),
        pixels=load_batch(paths, model.variant.preprocess),
        ids=_ids(model, texts),
    )


def _ids(model: MobileCLIP, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    tokens = model.variant.tokenizer
    if "text" not in model.towers:  # nothing looks them up
        tokens = CLIP.model_copy(update={"context_length": tokens.context_length})
    return encode(texts, tokens)


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
