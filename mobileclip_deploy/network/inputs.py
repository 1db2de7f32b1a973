"""Real images and prompts that towers are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.network.model.loaded import MobileCLIP
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.tokenizer import CLIP, encode
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.network.samples import image_paths, prompts


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
