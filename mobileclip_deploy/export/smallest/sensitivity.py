"""Sensitivity of a tower's layers: noise of its embeddings with one weight at 4 bits, computed in torch.

The weight has one scale per block of 32 inputs, symmetric. Noises of different layers are nearly independent, so those
of a mix add up. The real effect is measured on the file before it counts.
"""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from mobileclip_deploy.base.files.names import Name, Sha256
from mobileclip_deploy.network.model.provenance import weight_sha256

BATCH = 32
BLOCK = 32
# Noise that the gate of fewer than 8 bits allows (cosine 0.98: 2 (1 - 0.98) of the energy). SHARES are the expected
# noise of mixes as shares of it, or of the noise of all layers together if that is less; then accuracy decides. The
# gate is on the worst input and the noise is an average, so the largest shares seldom pass.
ALLOWED = 0.04
SHARES = (1.0, 0.75, 0.5, 0.25, 0.1, 0.03)


class Layer(BaseModel, frozen=True):
    """One weight.

    `noise`: energy of the embeddings' error with this weight at 4 bits, over that of the embeddings. `sha256`: by
    `weight_sha256`.
    """

    name: Name
    sha256: Sha256
    weights: int
    noise: float


@torch.no_grad()
def measure_layers(tower: nn.Module, inputs: npt.NDArray[np.generic], names: Collection[str]) -> list[Layer]:
    """Measures the layers of a folded tower in eval mode, in the tower's order; its weights are unchanged afterwards.

    Args:
        inputs: of the tower, in its own format (see `calibration.calibration_inputs`).
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
    """Returns sets of layers to store at 4 bits, by name, the largest first.

    For each share of the allowed noise, a set has as many weights as fit, chosen by noise per weight. The empty set and
    the full set are left out: those are precisions of their own.
    """
    order = sorted(layers, key=lambda layer: (layer.noise / layer.weights, layer.name))
    allowed = min(ALLOWED, sum(layer.noise for layer in layers))
    sets: list[frozenset[str]] = []
    for share in SHARES:
        left, chosen = share * allowed, set()
        for layer in order:
            if layer.noise <= left:
                left -= layer.noise
                chosen.add(layer.name)
        if 0 < len(chosen) < len(layers) and frozenset(chosen) not in sets:
            sets.append(frozenset(chosen))
    return sets
