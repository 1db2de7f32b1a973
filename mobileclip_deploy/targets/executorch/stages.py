"""Parity after each stage of an export: the stage that broke is named, not the artifact that came out of it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.parity import Deviation, compare

__all__ = ["Stages"]

# A stage that quantizes nothing may move embeddings by rounding alone; random weights amplify it (S2: 3e-4).
SAME = 1e-3
# Lowered against converted: the same integers, other roundings of what lies between them.
LOWERED = 0.99


class Stages:
    """Compares each stage of one tower with what the tower computed at first.

    Args:
        tower: what error texts call it.
        module: the folded tower.
        inputs: a few inputs of it, [N, ...].
        cosine: what a quantized stage must hold against the folded tower.
    """

    def __init__(self, tower: str, module: nn.Module, inputs: Tensor, cosine: float) -> None:
        self._tower, self._inputs, self._cosine = tower, inputs, cosine
        self._reference = self._outputs(module)
        self._last = self._reference

    def same(self, stage: str, module: nn.Module) -> None:
        """A stage after which the tower still computes what the last stage computed, to rounding.

        Raises:
            ExportError: it does not.
        """
        self._check(stage, compare(self._last, self._outputs(module)), "relative", SAME)

    def near(self, stage: str, module: nn.Module) -> None:
        """A stage that quantizes: what comes out is compared with the folded tower.

        Raises:
            ExportError: the cosine is below the precision's gate.
        """
        self._last = self._outputs(module)
        self._check(stage, compare(self._reference, self._last), "cosine", self._cosine)

    def lowered(self, run: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.float32]]) -> None:
        """The .pte against the last stage.

        Raises:
            ExportError: it computes something else.
        """
        self._check("lowered", compare(self._last, run(self._inputs.numpy())), "cosine", LOWERED)

    def _outputs(self, module: nn.Module) -> npt.NDArray[np.float32]:
        # Prepared modules observe what passes through them: a copy is asked, so that checks leave no trace.
        asked = copy.deepcopy(module)
        with torch.no_grad():
            return np.concatenate([asked(row).numpy() for row in self._inputs.split(1)])

    def _check(self, stage: str, deviation: Deviation, metric: str, bound: float) -> None:
        value = deviation.value(metric)
        if not (value >= bound if metric == "cosine" else value <= bound):
            sign = ">=" if metric == "cosine" else "<="
            raise ExportError(
                f"the {self._tower} tower broke at stage {stage}: {metric} {value:.4g}, wanted {sign} {bound:g}"
            )
