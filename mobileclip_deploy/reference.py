"""The reference: real images and prompts, and what the checkpoint itself answers for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from mobileclip_deploy.architecture import MobileCLIP
from mobileclip_deploy.checkpoints.writing import write_tensors
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.folding import is_folded
from mobileclip_deploy.preprocess import load_batch, normalize
from mobileclip_deploy.samples import image_paths, prompts
from mobileclip_deploy.tokenizer import tokenize
from mobileclip_deploy.towers import TOWERS, TowerName

__all__ = ["Inputs", "Reference", "embed", "embed_images", "embed_texts", "sample_inputs"]

BATCH = 32


@dataclass(frozen=True)
class Inputs:
    """What both sides are given: pixels float32 [N, 3, S, S] in [0, 1] and ids int64 [M, 77]."""

    images: tuple[str, ...]
    prompts: tuple[str, ...]
    pixels: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]

    def of(self, tower: TowerName) -> npt.NDArray[np.generic]:
        """The input of one tower."""
        return self.pixels if tower == "image" else self.ids


def sample_inputs(model: MobileCLIP, images: Sequence[Path] = (), texts: Sequence[str] = ()) -> Inputs:
    """Preprocess and tokenize as the model's variant says; the packaged samples stand in for what is not given.

    Raises:
        InvalidInput: an image cannot be used.
    """
    paths = list(images) or image_paths()
    texts = list(texts) or prompts()
    variant = model.variant
    return Inputs(
        images=tuple(path.name for path in paths),
        prompts=tuple(texts),
        pixels=load_batch(paths, variant.preprocess).numpy(),
        ids=tokenize(texts, variant.tokenizer.context_length),
    )


@torch.no_grad()
def embed_images(model: MobileCLIP, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The checkpoint's own answer to pixels [N, 3, S, S] in [0, 1]: [N, D], not normalised."""
    spec = model.variant.preprocess
    batches = torch.from_numpy(pixels).split(BATCH)
    return torch.cat([model.encode_image(normalize(batch, spec)) for batch in batches]).numpy()


@torch.no_grad()
def embed_texts(model: MobileCLIP, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The checkpoint's own answer to token ids [N, 77]: [N, D], not normalised."""
    return torch.cat([model.encode_text(batch) for batch in torch.from_numpy(ids).split(BATCH)]).numpy()


def embed(model: MobileCLIP, tower: TowerName, inputs: Inputs) -> npt.NDArray[np.float32]:
    """The checkpoint's own answer to one tower's inputs: [N, D], not normalised."""
    return embed_images(model, inputs.pixels) if tower == "image" else embed_texts(model, inputs.ids)


@dataclass(frozen=True)
class Reference:
    """Inputs and the checkpoint's embeddings of them, float32 [N, D] a tower; a bundle keeps it as golden.safetensors.

    `folded` says that a folded checkpoint answered: then folding itself has nothing to be compared with.
    """

    inputs: Inputs
    embeddings: dict[TowerName, npt.NDArray[np.float32]]
    folded: bool

    def of(self, tower: TowerName) -> npt.NDArray[np.float32]:
        """The reference embeddings of one tower.

        Raises:
            InvalidInput: it has none.
        """
        if tower not in self.embeddings:
            raise InvalidInput(f"there are no reference embeddings of the {tower} tower; export the bundle again")
        return self.embeddings[tower]

    @classmethod
    def compute(cls, model: MobileCLIP, inputs: Inputs) -> Reference:
        """Ask the model, in whatever form it is in, for the towers it has."""
        embeddings = {tower: embed(model, tower, inputs) for tower in TOWERS if tower in model.towers}
        return cls(inputs, embeddings, is_folded(model))

    def save(self, path: Path) -> None:
        """Write as safetensors: `pixels` uint8 [N, 3, S, S] (divide by 255), `ids` int32 [M, 77], `image_embeddings`
        and `text_embeddings` float32; names, prompts and `folded` in the metadata."""
        tensors = {
            "pixels": torch.from_numpy(np.rint(self.inputs.pixels * 255).astype(np.uint8)),
            "ids": torch.from_numpy(self.inputs.ids.astype(np.int32)),
        }
        tensors |= {f"{tower}_embeddings": torch.from_numpy(values) for tower, values in self.embeddings.items()}
        metadata = {"images": self.inputs.images, "prompts": self.inputs.prompts, "folded": self.folded}
        write_tensors(path, tensors, {key: json.dumps(value) for key, value in metadata.items()})

    def _check(self) -> None:
        for tower, values in self.embeddings.items():
            if values.ndim != 2 or len(values) != len(self.inputs.of(tower)) or not len(values):
                raise ValueError(f"{tower} embeddings of shape {list(values.shape)} do not go with its inputs")

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Read what `save` wrote.

        Raises:
            InvalidInput: missing, damaged or of another format.
        """
        try:
            with safe_open(path, framework="np") as file:
                metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
                inputs = Inputs(
                    images=tuple(metadata["images"]),
                    prompts=tuple(metadata["prompts"]),
                    pixels=file.get_tensor("pixels").astype(np.float32) / np.float32(255),
                    ids=file.get_tensor("ids").astype(np.int64),
                )
                names = set(file.keys())
                embeddings = {
                    tower: file.get_tensor(f"{tower}_embeddings") for tower in TOWERS if f"{tower}_embeddings" in names
                }
                reference = cls(inputs, embeddings, bool(metadata["folded"]))
                reference._check()
                return reference
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise InvalidInput(f"{path} is missing or damaged: {error}") from error
