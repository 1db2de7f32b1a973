"""The stages of an export, in order: the tower authored for the backend, quantized where wanted, lowered, written."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from torch import nn

from mobileclip_deploy.model.precision import precision_of
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets.executorch.backends import Backend, get_backend
from mobileclip_deploy.targets.executorch.lowering import lower
from mobileclip_deploy.targets.executorch.options import LoweringJob
from mobileclip_deploy.targets.executorch.stages import StageBroke, Stages
from mobileclip_deploy.targets.foreign.executorch import import_exir, released_weights
from mobileclip_deploy.targets.quiet import conversion, hold_back
from mobileclip_deploy.targets.rules import stored
from mobileclip_deploy.targets.storage import by_numbers
from mobileclip_deploy.targets.values import Runner
from mobileclip_deploy.towers.calibration import calibration_inputs

__all__ = ["measure_stages", "write_program"]

FLOAT = ("fp32", "fp16")
# So many inputs are compared after each stage.
COMPARED = 4
# Bytes of weights from which on it is worth a quarter of a second to look for graphs that nobody needs any more.
LARGE = 100_000_000


def write_program(job: LoweringJob, path: Path) -> tuple[Check, ...]:
    """Write a tower's .pte, and its ETRecord beside it where wanted; gives what each stage computed.

    Raises:
        ExportError: a stage failed, or no longer computes what the stage before it computed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    large = sum(weights.nbytes for weights in job.module.parameters()) > LARGE
    with conversion(f"ExecuTorch export of the {job.tower} tower"), hold_back():
        import_exir()
        with released_weights() if large else contextlib.nullcontext():
            return _write(job, path)


def _write(job: LoweringJob, path: Path) -> tuple[Check, ...]:
    backend = get_backend(job.options.backend or "xnnpack")
    if not backend.runs_in_wheel:
        path.write_bytes(lower(backend.authored(job), job, backend, path))
        return ()
    inputs = _inputs(job)
    stages = _stages(job, inputs)
    path.write_bytes(lower(_written(job, backend, inputs, stages), job, backend, path))
    stages.lowered(lambda: _runner(path))
    return stages.checks


def measure_stages(job: LoweringJob, path: Path) -> tuple[Check, ...]:
    """The stages again, up to the one that breaks, with the .pte at `path` as the last; nothing is written.

    Raises:
        ExportError: a stage failed.
        RuntimeFailed: the runtime refused the file.
    """
    backend = get_backend(job.options.backend or "xnnpack")
    if not backend.runs_in_wheel:
        return ()
    inputs = _inputs(job)
    stages = _stages(job, inputs)
    with contextlib.suppress(StageBroke):  # its check says it
        with conversion(f"ExecuTorch export of the {job.tower} tower"), hold_back():
            import_exir()
            _written(job, backend, inputs, stages)
        stages.lowered(lambda: _runner(path))
    return stages.checks


def _inputs(job: LoweringJob) -> torch.Tensor:
    given = job.calibration
    return torch.from_numpy(calibration_inputs(job.variant, job.tower, None) if given is None else given)


def _stages(job: LoweringJob, inputs: torch.Tensor) -> Stages:
    cosine = None if job.precision in FLOAT else precision_of(job.precision).gate
    fixed = precision_of(job.precision).calibrated
    return Stages(job.tower, job.module, inputs[:COMPARED], cosine, fixed=fixed)


def _written(job: LoweringJob, backend: Backend, inputs: torch.Tensor, stages: Stages) -> nn.Module:
    """The tower as the backend wants it, quantized where wanted."""
    from mobileclip_deploy.targets.executorch.quantization import quantize
    from mobileclip_deploy.targets.executorch.storage import RULES

    module = backend.authored(job)
    stages.same("authored", module)
    if job.precision in FLOAT:
        return module
    grids = stored(RULES, job.tower, job.module, job.precision)
    by_sha256 = {key: grids[name] for key, name in by_numbers(job.module, grids).items()}
    rest = precision_of(job.precision).rest
    return quantize(module, rest, inputs, stages, by_sha256, job.free)


def _runner(path: Path) -> Runner:
    from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact

    return ExecuTorchArtifact(path, readable=False).runner()
