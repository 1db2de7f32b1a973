"""Comparison of an export's stages with the outputs of the original tower."""

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import ExportError, InvalidInput, NotRun
from mobileclip_deploy.parity import Bound, Check, Deviation, compare
from mobileclip_deploy.targets.values import Runner

# A stage that quantizes nothing changes embeddings by rounding only; random weights amplify it (S2: 3e-4).
SAME = 1e-3
# Lowered against converted: the weights' integers are the same, the roundings of activations differ. With ranges
# measured at run time nano reached 0.99995 and S0's filling 0.9998; with fixed ranges, rounding adds up through nano's
# image tower (0.9963).
LOWERED, LOWERED_FIXED = 0.999, 0.99


class StageBroke(ExportError):
    """Error for a stage that no longer computes the same as the stage before it; the text names it."""


class Stages:
    """Comparisons of each stage of one tower with the original tower's outputs; the results are in `checks`.

    Methods raise StageBroke if a stage exceeds its bound, or returns embeddings of another shape.

    Args:
        tower: its name in checks and error texts.
        module: the folded tower.
        inputs: a few inputs of it, [N, ...].
        cosine: smallest cosine of a quantized stage against the folded tower; None if nothing is quantized.
        fixed: True if the ranges of activations are stored in the file.
    """

    def __init__(
        self, tower: str, module: nn.Module, inputs: Tensor, cosine: float | None, *, fixed: bool = False
    ) -> None:
        self._tower, self._inputs, self._cosine, self._fixed = tower, inputs, cosine, fixed
        self._reference = self._last = self._outputs(module)
        self.checks: tuple[Check, ...] = ()

    def same(self, stage: str, module: nn.Module, *, observes: bool = False) -> None:
        """Checks a stage that computes the same as the last stage, up to rounding.

        Args:
            observes: True if the module measures its inputs; a copy is run then, so that the check leaves no trace.
        """
        outputs = self._outputs(copy.deepcopy(module) if observes else module)
        self._check(stage, compare(self._last, outputs), "relative", SAME)

    def near(self, stage: str, module: nn.Module) -> None:
        """Checks a stage that quantizes: its outputs are compared with the folded tower's."""
        assert self._cosine is not None
        self._last = self._outputs(module)
        self._check(stage, compare(self._reference, self._last), "cosine", self._cosine)

    def lowered(self, load: Callable[[], Runner]) -> None:
        """Compares the .pte with the last stage."""
        try:
            runner = load()
            deviation = compare(self._last, runner(self._inputs.numpy()))
        except NotRun as error:
            self.checks += (Check.not_run("lowered", self._tower, str(error)),)
            return
        except (InvalidInput, ValueError) as error:
            self.checks += (Check(step="lowered", tower=self._tower, status="failed", detail=str(error)),)
            raise StageBroke(f"the {self._tower} tower failed at stage lowered: {error}") from error
        quantized = "cosine", LOWERED_FIXED if self._fixed else LOWERED
        self._check("lowered", deviation, *(("relative", SAME) if self._cosine is None else quantized), runner.engine)

    def _outputs(self, module: nn.Module) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            return np.concatenate([module(row).numpy() for row in self._inputs.split(1)])

    def _check(self, stage: str, deviation: Deviation, metric: str, bound: float, engine: str | None = None) -> None:
        engine = engine or f"torch {torch.__version__}"
        check = Check.measured(stage, self._tower, deviation, Bound(metric, bound), engine)
        self.checks += (check,)
        if check.status == "failed":
            measured = f"{metric} {deviation.value(metric):.4g}"
            raise StageBroke(f"the {self._tower} tower failed at stage {stage}: {measured}, expected {check.gate}")
