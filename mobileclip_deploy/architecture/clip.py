"""The two towers and the temperature, built from a variant."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mobileclip_deploy.architecture.fastvit import MCi
from mobileclip_deploy.architecture.text import TextTransformer
from mobileclip_deploy.architecture.vit import ViT
from mobileclip_deploy.provenance import Provenance
from mobileclip_deploy.variants import MCiTower, Variant

__all__ = ["MobileCLIP", "build_model"]


class MobileCLIP(nn.Module):
    """Image tower `image`, text tower `text` and `logit_scale` (a scalar, in log space).

    `provenance` names the checkpoint the weights came from; None for weights that came from nowhere.
    """

    provenance: Provenance | None = None

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        spec = variant.image
        self.image: MCi | ViT = (
            MCi(spec, variant.embed_dim)
            if isinstance(spec, MCiTower)
            else ViT(spec, variant.embed_dim, variant.preprocess.size)
        )
        self.text = TextTransformer(variant.text, variant.tokenizer, variant.embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_image(self, x: Tensor) -> Tensor:
        """Images [N, 3, S, S] float32 after all preprocessing (mean and std applied) -> [N, D], not normalised."""
        return self.image(x)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids [N, 77], any integer type -> [N, D], not normalised."""
        return self.text(ids)


def build_model(variant: Variant, device: str = "cpu") -> MobileCLIP:
    """The network of `variant` in training form and eval mode, initialised at random (or empty on "meta")."""
    with torch.device(device):
        model = MobileCLIP(variant)
    return model.eval()
