"""Real images and prompts that towers are measured on, and what the checkpoint itself answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.preprocessing import load_batch, normalize
from mobileclip_deploy.network.model.tokenizer import CLIP, encode
from mobileclip_deploy.network.model.variants import TowerName, no_text_tower
from mobileclip_deploy.network.samples import image_paths, prompts

BATCH = 32
# In float64 every activation is twice as large.
EXACT_BATCH = 8


@dataclass(frozen=True)
class Inputs:
    """What both sides are given: pixels float32 [N, 3, S, S] in [0, 1] and ids int64 [M, L]; no ids where the variant
    has no text tower."""

    images: tuple[str, ...]
    prompts: tuple[str, ...]
    pixels: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]

    def of(self, tower: TowerName) -> npt.NDArray[np.generic]:
        """The input of one tower."""
        return self.pixels if tower == "image" else self.ids

    def some(self, tower: TowerName, rows: npt.NDArray[np.intp]) -> Inputs:
        """With these of one tower's inputs alone, by number."""
        if tower == "image":
            return replace(self, images=tuple(self.images[row] for row in rows), pixels=self.pixels[rows])
        return replace(self, prompts=tuple(self.prompts[row] for row in rows), ids=self.ids[rows])


def sample_inputs(model: MobileCLIP, images: Sequence[Path] = (), texts: Sequence[str] = ()) -> Inputs:
    """Preprocess and tokenize as the model's variant says; the packaged samples stand in for what is not given.

    Raises:
        InvalidInput: an image cannot be used, or a vocabulary that is not the tokenizer's (`encode`).
        UsageError: texts, and the variant has no text tower.
    """
    paths = list(images) or image_paths()
    variant = model.variant
    if variant.text is None:
        if texts:
            raise no_text_tower(variant.name)
    else:
        texts = list(texts) or prompts()
    return Inputs(
        images=tuple(path.name for path in paths),
        prompts=tuple(texts),
        pixels=load_batch(paths, variant.preprocess).numpy(),
        ids=_ids(model, texts),
    )


def _ids(model: MobileCLIP, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    tokens = model.variant.tokenizer
    if tokens is None:
        return np.zeros((0, 0), np.int64)
    if "text" not in model.towers:  # nothing looks them up
        tokens = CLIP.model_copy(update={"context_length": tokens.context_length})
    return encode(texts, tokens)


@torch.no_grad()
def embed_images(model: MobileCLIP, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The checkpoint's own answer to pixels [N, 3, S, S] in [0, 1]: [N, D], not normalised."""
    spec = model.variant.preprocess
    batches = torch.from_numpy(pixels).split(BATCH)
    return torch.cat([model.encode_image(normalize(batch, spec)) for batch in batches]).numpy()


@torch.no_grad()
def embed_texts(model: MobileCLIP, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The checkpoint's own answer to token ids [N, L]: [N, D], not normalised."""
    return torch.cat([model.encode_text(batch) for batch in torch.from_numpy(ids).split(BATCH)]).numpy()


def embed(model: MobileCLIP, tower: TowerName, inputs: Inputs) -> npt.NDArray[np.float32]:
    """The checkpoint's own answer to one tower's inputs: [N, D], not normalised."""
    return embed_images(model, inputs.pixels) if tower == "image" else embed_texts(model, inputs.ids)


@torch.no_grad()
def embed_exactly(model: MobileCLIP, tower: TowerName, inputs: Inputs) -> npt.NDArray[np.float64]:
    """The embeddings that the weights mean, in float64 arithmetic: [N, D], not normalised.

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
    """As `embed_exactly`, of token ids [N, L]: [N, D]."""
    assert model.text is not None
    network = copy.deepcopy(model.text).double()
    return torch.cat([network(batch) for batch in torch.from_numpy(ids).split(EXACT_BATCH)]).numpy()
