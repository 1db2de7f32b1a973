"""Effect of rounding a tower's weights on its embeddings, computed in torch without a conversion.

There are two forms. A choice is predicted with all weights rounded to its storage, as the target reports it. A layer is
measured with its weight alone at 4 bits (one scale per block of 32 inputs, symmetric), if the target can store it so.
Noises of different layers are nearly independent, so those of a mix add up. Activations are not rounded, and arithmetic
is float32. The real effect is measured on the file before it counts.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from mobileclip_deploy.base.files.names import Name, Sha256
from mobileclip_deploy.network.model.provenance import weight_sha256
from mobileclip_deploy.parity import Bound, compare
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.train import to_nearest
from mobileclip_deploy.targets.storage import Storage

BATCH = 32
# A choice is not converted if its predicted distance from cosine 1 is TIMES the gate's, or its predicted
# signal-to-noise ratio is DECIBELS below the gate. For nano's ONNX files the prediction was within 0.01 dB of the
# measurement (docs/evaluation.md), except for the effects of activations and float16, which are not predicted.
TIMES, DECIBELS = 2.0, 3.0


class Prediction(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """Predicted figures of a choice.

    `cosine`: of the worst input. `snr_db`: the centred signal-to-noise ratio. None if nothing changes, or if inputs do
    not differ.
    """

    cosine: float
    snr_db: float | None

    @property
    def noise(self) -> float:
        """Energy of the embeddings' error, over that of the differences between inputs."""
        return 2 * (1 - self.cosine) if self.snr_db is None else 10 ** (-self.snr_db / 10)

    def fails(self, bound: Bound) -> str | None:
        """Returns why a conversion is not worth its time. None if the choice may hold its gate."""
        if bound.metric == "cosine" and 1 - self.cosine > TIMES * (1 - bound.value):
            return f"predicted cosine {self.cosine:.4f}"
        if bound.snr_db is not None and self.snr_db is not None and self.snr_db < bound.snr_db - DECIBELS:
            return f"predicted SNR {self.snr_db:.1f} dB"
        return None


class Predictor:
    """Predictor of the choices of one tower.

    Args:
        module: the tower as it is exported, folded, in eval mode.
        inputs: of the tower, in its own format.
    """

    def __init__(self, module: nn.Module, inputs: npt.NDArray[np.generic]) -> None:
        self._exact, self._rounded = module, copy.deepcopy(module)
        self._batches = torch.from_numpy(inputs).split(BATCH)
        self._answers: npt.NDArray[np.float32] | None = None
        self._grids: dict[str, Grid] = {}

    @torch.no_grad()
    def predict(self, storage: Storage) -> Prediction:
        """Predicts the effect of a storage of the tower."""
        if self._answers is None:
            self._answers = self._embed(self._exact)
        exact, rounded = _tensors(self._exact), _tensors(self._rounded)
        for name, grid in storage.items():
            # Choices share most of their grids: a weight with the same grid as in the last choice is not rounded again.
            if exact[name].is_floating_point() and self._grids.get(name) != grid:
                rounded[name].copy_(to_nearest(grid, exact[name]))
                self._grids[name] = grid
        deviation = compare(self._answers, self._embed(self._rounded))
        return Prediction(cosine=deviation.cosine, snr_db=deviation.snr_db)

    def _embed(self, module: nn.Module) -> npt.NDArray[np.float32]:
        return np.concatenate([module(batch).numpy() for batch in self._batches])


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


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
