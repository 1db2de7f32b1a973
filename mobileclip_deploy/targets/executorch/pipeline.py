"""The stages of an export, in order: the tower authored for the backend, quantized where wanted, lowered, written.

Parity is measured after each: the stage that broke is named, not the artifact that came out of it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.calibration import calibration_inputs
from mobileclip_deploy.errors import ExportError, InvalidInput, NotRun
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.parity import Bound, Check, Deviation, compare
from mobileclip_deploy.targets.executorch.backends import RULES, Backend, LoweringJob
from mobileclip_deploy.targets.executorch.lowering import lower
from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact
from mobileclip_deploy.targets.foreign.executorch import import_exir, released_weights
from mobileclip_deploy.targets.quiet import conversion, hold_back
from mobileclip_deploy.targets.rules import stored
from mobileclip_deploy.targets.storage import by_numbers
from mobileclip_deploy.targets.values import Runner

# So many inputs are compared after each stage.
COMPARED = 4
# Bytes of weights from which on it is worth a quarter of a second to look for graphs that nobody needs any more.
LARGE = 100_000_000


def write_program(job: LoweringJob, backend: Backend, path: Path) -> tuple[Check, ...]:
    """Write a tower's .pte, and its ETRecord beside it where wanted; gives what each stage computed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = sum(weights.nbytes for weights in job.module.parameters()) > LARGE
    with _conversion(job), released_weights() if large else contextlib.nullcontext():
        if not backend.runs_in_wheel:
            path.write_bytes(lower(backend.authored(job), job, backend, path))
            return ()
        inputs, stages = _begun(job)
        path.write_bytes(lower(_written(job, backend, inputs, stages), job, backend, path))
        stages.lowered(ExecuTorchArtifact(path, readable=False).runner)
        return stages.checks


def measure_stages(job: LoweringJob, backend: Backend, path: Path) -> tuple[Check, ...]:
    """The stages again, up to the one that breaks, with the .pte at `path` as the last; nothing is written."""
    if not backend.runs_in_wheel:
        return ()
    inputs, stages = _begun(job)
    with contextlib.suppress(StageBroke):  # its check says it
        with _conversion(job):
            _written(job, backend, inputs, stages)
        stages.lowered(ExecuTorchArtifact(path, readable=False).runner)
    return stages.checks


@contextlib.contextmanager
def _conversion(job: LoweringJob) -> Iterator[None]:
    with conversion(f"ExecuTorch export of the {job.tower} tower"), hold_back():
        import_exir()
        yield


def _begun(job: LoweringJob) -> tuple[Tensor, Stages]:
    """Inputs of the tower, and what it gives for the first of them."""
    given, precision = job.calibration, precision_of(job.precision)
    inputs = torch.from_numpy(calibration_inputs(job.variant, job.tower, None) if given is None else given)
    cosine = None if precision.kind == "float" else precision.gate
    return inputs, Stages(job.tower, job.module, inputs[:COMPARED], cosine, fixed=precision.calibrated)


def _written(job: LoweringJob, backend: Backend, inputs: Tensor, stages: Stages) -> nn.Module:
    """The tower as the backend wants it, quantized where wanted."""
    from mobileclip_deploy.targets.executorch.quantization import quantize

    module, precision = backend.authored(job), precision_of(job.precision)
    stages.same("authored", module)
    if precision.kind == "float":
        return module
    grids = stored(RULES, job.tower, job.module, job.precision)
    by_sha256 = {key: grids[name] for key, name in by_numbers(job.module, grids).items()}
    return quantize(module, precision.rest, inputs, stages, by_sha256, job.free)


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
