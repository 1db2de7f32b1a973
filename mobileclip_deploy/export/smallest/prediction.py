"""What rounding a tower's weights to a choice's storage does to its embeddings, computed in torch: no conversion.

Of the storage that the target says; activations are not rounded, and arithmetic is float32. What a file really does is
measured on the file, before it counts.
"""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from mobileclip_deploy.parity import Bound, compare
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.train import to_nearest
from mobileclip_deploy.targets.storage import Storage

__all__ = ["Prediction", "Predictor"]

BATCH = 32
# A choice is not converted whose predicted distance from cosine 1 is so many times what its gate allows, or whose
# predicted signal-to-noise ratio is so many dB below it. Of nano's ONNX files the prediction was within 0.01 dB of what
# was measured (docs/evaluation.md), but for what activations and float16 add, which it does not see.
TIMES, DECIBELS = 2.0, 3.0


class Prediction(BaseModel, frozen=True, ser_json_inf_nan="strings"):
    """`cosine`: of the worst input. `snr_db`: the centred signal-to-noise ratio; None where nothing moves, and where
    inputs do not differ."""

    cosine: float
    snr_db: float | None

    @property
    def noise(self) -> float:
        """Energy of what the embeddings move by, over that of the differences between inputs."""
        return 2 * (1 - self.cosine) if self.snr_db is None else 10 ** (-self.snr_db / 10)

    def fails(self, bound: Bound) -> str | None:
        """Why a conversion is not worth its time, in words; None where it may hold its gate."""
        if bound.metric == "cosine" and 1 - self.cosine > TIMES * (1 - bound.value):
            return f"predicted cosine {self.cosine:.4f}"
        if bound.snr_db is not None and self.snr_db is not None and self.snr_db < bound.snr_db - DECIBELS:
            return f"predicted SNR {self.snr_db:.1f} dB"
        return None


class Predictor:
    """Predicts choices of one tower.

    Args:
        module: the tower as it is exported, folded, in eval mode.
        inputs: of it, as it takes them.
    """

    def __init__(self, module: nn.Module, inputs: npt.NDArray[np.generic]) -> None:
        self._exact, self._rounded = module, copy.deepcopy(module)
        self._batches = torch.from_numpy(inputs).split(BATCH)
        self._answers: npt.NDArray[np.float32] | None = None
        self._grids: dict[str, Grid] = {}

    @torch.no_grad()
    def predict(self, storage: Storage) -> Prediction:
        """What a storage of the tower costs."""
        if self._answers is None:
            self._answers = self._embed(self._exact)
        exact, rounded = _tensors(self._exact), _tensors(self._rounded)
        for name, grid in storage.items():
            # Choices share most of their grids: a weight that has the one of the choice before stays.
            if exact[name].is_floating_point() and self._grids.get(name) != grid:
                rounded[name].copy_(to_nearest(grid, exact[name]))
                self._grids[name] = grid
        deviation = compare(self._answers, self._embed(self._rounded))
        return Prediction(cosine=deviation.cosine, snr_db=deviation.snr_db)

    def _embed(self, module: nn.Module) -> npt.NDArray[np.float32]:
        return np.concatenate([module(batch).numpy() for batch in self._batches])


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())
