"""Stages of an export, in order: the tower is rewritten for the backend, quantized if necessary, lowered and written.

Parity is measured after each, so that an error names the broken stage and not the final artifact.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.calibration import calibration_inputs
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets.executorch.backends import RULES, Backend, LoweringJob
from mobileclip_deploy.targets.executorch.lowering import lower
from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact
from mobileclip_deploy.targets.executorch.stages import StageBroke, Stages
from mobileclip_deploy.targets.quiet import conversion, hold_back
from mobileclip_deploy.targets.rules import stored
from mobileclip_deploy.targets.storage import by_numbers
from mobileclip_deploy.targets.vendor_internals.executorch import import_exir, released_weights

# Number of inputs that are compared after each stage.
COMPARED = 4
# Bytes of weights from which a search for unused graphs is worth its quarter of a second.
LARGE = 100_000_000


def write_program(job: LoweringJob, backend: Backend, path: Path) -> tuple[Check, ...]:
    """Writes a tower's .pte. Returns the checks of each stage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    large = sum(weights.nbytes for weights in job.module.parameters()) > LARGE
    with _conversion(job), released_weights() if large else contextlib.nullcontext():
        if not backend.runs_in_wheel:
            path.write_bytes(lower(backend.authored(job), job, backend))
            return ()
        inputs, stages = _begun(job)
        path.write_bytes(lower(_written(job, backend, inputs, stages), job, backend))
        stages.lowered(ExecuTorchArtifact(path, readable=False).runner)
        return stages.checks


def measure_stages(job: LoweringJob, backend: Backend, path: Path) -> tuple[Check, ...]:
    """Measures the stages again, up to the one that breaks, with the .pte at `path` as the last; nothing is written."""
    if not backend.runs_in_wheel:
        return ()
    inputs, stages = _begun(job)
    with contextlib.suppress(StageBroke):  # its check records it
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
    """Returns inputs of the tower, and the stages, which hold the tower's outputs for the first of them."""
    calibration, precision = job.calibration, precision_of(job.precision)
    inputs = torch.from_numpy(calibration_inputs(job.variant, job.tower, None) if calibration is None else calibration)
    cosine = None if precision.kind == "float" else precision.gate
    return inputs, Stages(job.tower, job.module, inputs[:COMPARED], cosine, fixed=precision.calibrated)


def _written(job: LoweringJob, backend: Backend, inputs: Tensor, stages: Stages) -> nn.Module:
    """Returns the tower rewritten for the backend, and quantized at integer precisions."""
    from mobileclip_deploy.targets.executorch.quantization import quantize

    module, precision = backend.authored(job), precision_of(job.precision)
    stages.same("authored", module)
    if precision.kind == "float":
        return module
    grids = stored(RULES, job.tower, job.module, job.precision)
    by_sha256 = {key: grids[name] for key, name in by_numbers(job.module, grids).items()}
    return quantize(module, precision.rest, inputs, stages, by_sha256, job.free)
