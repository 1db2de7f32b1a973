"""The embedder of a checkpoint, run by torch."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.embedding import embed_images, embed_texts
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.targets import Runner


@dataclass
class TorchRunner:
    """A checkpoint's own tower, run by torch."""

    engine: str
    compute: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        return self.compute(inputs)


def model_runner(model: MobileCLIP, tower: TowerName) -> Runner:
    """Makes a runner of one of a checkpoint's towers, in the model's current form.

    Raises:
        UsageError: the checkpoint lacks the tower.
    """
    if tower not in model.towers:
        raise UsageError(f"this checkpoint has no {tower} tower; it has the {model.towers[0]} tower")
    embed = embed_images if tower == "image" else embed_texts
    return TorchRunner(f"torch {torch.__version__}", lambda inputs: embed(model, inputs))


def model_embedder(model: MobileCLIP) -> Embedder:
    """Makes an embedder of the checkpoint itself, run by torch.

    Raises:
        CheckpointError: the model was not loaded from one (`MobileCLIP.origin`).
    """
    return Embedder(
        name=f"{model.variant.name} checkpoint",
        variant=model.variant.name,
        engine=f"torch {torch.__version__}",
        embedding_space=model.origin.embedding_space,
        images=lambda pixels: embed_images(model, pixels),
        texts=lambda ids: embed_texts(model, ids),
        artifact=lambda tower: _weights_sha256(model),
        preprocess=model.variant.preprocess,
        tokenizer=model.variant.tokenizer,
        template=model.variant.template,
        scores=model.scores,
    )


def _weights_sha256(model: MobileCLIP) -> str:
    """Returns the SHA-256 of the weights in memory, not of the file: changed weights need another cache."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
