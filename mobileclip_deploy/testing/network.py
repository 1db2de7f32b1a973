"""A network with every kind of block that converts in seconds."""

from __future__ import annotations

import torch
from torch import Tensor

from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.model.architecture import build_model
from mobileclip_deploy.model.provenance import Provenance
from mobileclip_deploy.model.variants import Variant, load_variant

# What is narrower than nano's, whose name, tokenizer and preprocessing the network has.
IMAGE = {"depths": [1, 1, 1, 1], "widths": [16, 32, 32, 64], "mlp_ratios": [2, 2, 2, 2]}
TEXT = {"width": 32, "heads": 2}


def small_source() -> Source:
    """The built-in network, narrower and with random weights, in training form."""
    data = load_variant("nano").model_dump(mode="json")
    card = data | {"embed_dim": 24, "image": data["image"] | IMAGE, "text": data["text"] | TEXT}
    network = build_model(Variant.model_validate(card)).eval().requires_grad_(False)
    drawn = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        _draw(name, parameter, drawn)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):  # of training
            buffer.add_(torch.rand(buffer.shape, generator=drawn), alpha=0.1)
    network.provenance = Provenance(
        variant="nano", layout="apple", sha256="0" * 64, file="small", licence="none", research_only=False
    )
    return Source.of(network)


def _draw(name: str, value: Tensor, drawn: torch.Generator) -> None:
    """Draw a parameter so that numbers keep their size through the layers, and every layer decides the answers."""
    if "scale" in name.rpartition(".")[2]:
        value.uniform_(0.1, 0.3, generator=drawn)
    elif "embedding" in name:
        value.normal_(std=0.3, generator=drawn)
    elif value.dim() > 1:  # [out, in, ...]
        value.normal_(std=value[0].numel() ** -0.5, generator=drawn)
    elif name.endswith("weight"):
        value.uniform_(0.8, 1.2, generator=drawn)
    else:
        value.normal_(std=0.05, generator=drawn)
