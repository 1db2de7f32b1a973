"""The stages of an export, each compared with what the tower computed at first."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import ExportError, InvalidInput, NotRun
from mobileclip_deploy.parity import Bound, Check, Deviation, compare
from mobileclip_deploy.targets.values import Runner

# A stage that quantizes nothing may move embeddings by rounding alone; random weights amplify it (S2: 3e-4).
SAME = 1e-3
# Lowered against converted: the same integers of weights, other roundings of what lies between them. Where ranges are
# measured at run time nano came to 0.99995 and S0's filling to 0.9998; where they are fixed, rounding adds up through
# nano's image tower (0.9963).
LOWERED, LOWERED_FIXED = 0.999, 0.99


class StageBroke(ExportError):
    """A stage no longer computes what the stage before it computed; the text names it."""


class Stages:
    """Compares each stage of one tower with what the tower computed at first, and keeps the outcomes as `checks`.

    StageBroke is raised where a stage is further from that than its bound, or gives embeddings of another shape.

    Args:
        tower: what checks and error texts call it.
        module: the folded tower.
        inputs: a few inputs of it, [N, ...].
        cosine: what a quantized stage must hold against the folded tower; None where nothing is quantized.
        fixed: whether the ranges of activations stand in the file.
    """

    def __init__(
        self, tower: str, module: nn.Module, inputs: Tensor, cosine: float | None, *, fixed: bool = False
    ) -> None:
        self._tower, self._inputs, self._cosine, self._fixed = tower, inputs, cosine, fixed
        self._reference = self._last = self._outputs(module)
        self.checks: tuple[Check, ...] = ()

    def same(self, stage: str, module: nn.Module, *, observes: bool = False) -> None:
        """A stage after which the tower still computes what the last stage computed, to rounding.

        Args:
            observes: the module measures what passes through it; a copy is asked, so that the check leaves no trace.
        """
        outputs = self._outputs(copy.deepcopy(module) if observes else module)
        self._check(stage, compare(self._last, outputs), "relative", SAME)

    def near(self, stage: str, module: nn.Module) -> None:
        """A stage that quantizes: what comes out is compared with the folded tower."""
        assert self._cosine is not None
        self._last = self._outputs(module)
        self._check(stage, compare(self._reference, self._last), "cosine", self._cosine)

    def lowered(self, load: Callable[[], Runner]) -> None:
        """The .pte against the last stage."""
        try:
            runner = load()
            deviation = compare(self._last, runner(self._inputs.numpy()))
        except NotRun as error:
            self.checks += (Check.not_run("lowered", self._tower, str(error)),)
            return
        except (InvalidInput, ValueError) as error:
            self.checks += (Check(step="lowered", tower=self._tower, status="failed", detail=str(error)),)
            raise StageBroke(f"the {self._tower} tower broke at stage lowered: {error}") from error
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
            found = f"{metric} {deviation.value(metric):.4g}"
            raise StageBroke(f"the {self._tower} tower broke at stage {stage}: {found}, wanted {check.gate}")
