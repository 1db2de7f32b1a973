"""How much each layer's weights may be rounded: measured one layer at a time, on the calibration images or prompts.

A layer is one weight that the target can store at 4 bits. It is rounded to them by itself (one scale per block of 32
inputs, symmetric), the others stay in float32, and what the embeddings move is its noise. Noises of different layers
are nearly independent, so those of a mix add up; what they really add up to is measured on the artifact, as for every
candidate.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from mobileclip_deploy.model.provenance import weight_sha256

__all__ = ["Layer", "measure_layers", "mixes"]

BLOCK = 32
BATCH = 32
# Shares of the noise that the gate of fewer than 8 bits allows (cosine 0.98: 2 (1 - 0.98) of the energy) that a mix may
# be expected to make, or of what all layers make together where that is less: then accuracy decides. The gate is on the
# worst input and the noise an average, so the largest shares seldom pass.
ALLOWED = 0.04
SHARES = (1.0, 0.75, 0.5, 0.25, 0.1, 0.03)


class Layer(BaseModel, frozen=True):
    """One weight: `noise` is the energy of what the embeddings move by at 4 bits, over that of the embeddings; `sha256`
    that of `weight_sha256`."""

    name: str
    sha256: str
    weights: int
    noise: float


@torch.no_grad()
def measure_layers(tower: nn.Module, inputs: npt.NDArray[np.generic], names: Collection[str]) -> list[Layer]:
    """The layers of a folded tower in eval mode, in its own order; its weights are as before afterwards.

    Args:
        inputs: of the tower, as it takes them (see `calibration.calibration_inputs`).
        names: of the weights to measure.
    """
    batches = torch.from_numpy(inputs).split(BATCH)
    exact = torch.cat([tower(batch) for batch in batches]).double()
    energy = float(exact.square().sum())
    layers = []
    for name, weight in tower.named_parameters():
        if name not in names:
            continue
        original = weight.detach().clone()
        weight.copy_(_rounded(original))
        moved = torch.cat([tower(batch) for batch in batches]).double()
        weight.copy_(original)
        noise = float((moved - exact).square().sum()) / energy
        layers.append(Layer(name=name, sha256=weight_sha256(original.numpy()), weights=original.numel(), noise=noise))
    return layers


def _rounded(weight: Tensor) -> Tensor:
    rows = weight.flatten(1)
    padded = nn.functional.pad(rows, (0, -rows.shape[1] % BLOCK))
    blocks = padded.view(len(rows), -1, BLOCK)
    scale = blocks.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / 7
    rounded = (blocks / scale).round().clamp(-7, 7) * scale
    return rounded.view(len(rows), -1)[:, : rows.shape[1]].reshape(weight.shape)


def mixes(layers: Sequence[Layer]) -> list[frozenset[str]]:
    """Sets of layers to store at 4 bits, by name, the largest first: for each share of the allowed noise, as many
    weights as it has room for, taken by noise per weight. None and all are left out: those are precisions of their own.
    """
    order = sorted(layers, key=lambda layer: (layer.noise / layer.weights, layer.name))
    allowed = min(ALLOWED, sum(layer.noise for layer in layers))
    found: list[frozenset[str]] = []
    for share in SHARES:
        left, chosen = share * allowed, set()
        for layer in order:
            if layer.noise <= left:
                left -= layer.noise
                chosen.add(layer.name)
        if 0 < len(chosen) < len(layers) and frozenset(chosen) not in found:
            found.append(frozenset(chosen))
    return found
