"""The stages of an export, in order: the tower authored for the backend, quantized where wanted, lowered, written."""

from __future__ import annotations

from pathlib import Path

import torch

from mobileclip_deploy.calibration import calibration_inputs
from mobileclip_deploy.precision import PRECISIONS
from mobileclip_deploy.targets.base import TowerJob
from mobileclip_deploy.targets.executorch.backends import get_backend
from mobileclip_deploy.targets.executorch.native_output import hold_back
from mobileclip_deploy.targets.quiet import conversion

__all__ = ["write_program"]

FLOAT = ("fp32", "fp16")
# So many inputs are compared after each stage of a quantization.
COMPARED = 4


def write_program(job: TowerJob, path: Path) -> None:
    """Write a tower's .pte.

    Raises:
        ExportError: a stage failed, or no longer computes what the stage before it computed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with conversion(f"ExecuTorch export of the {job.tower} tower"), hold_back():
        if job.precision in FLOAT:
            _write_float(job, path)
        else:
            _write_quantized(job, path)


def _write_float(job: TowerJob, path: Path) -> None:
    from mobileclip_deploy.targets.executorch.lowering import lower

    backend = get_backend(job.options.backend or "xnnpack")
    path.write_bytes(lower(backend.authored(job), job, backend))


def _write_quantized(job: TowerJob, path: Path) -> None:
    from mobileclip_deploy.targets.executorch.lowering import lower
    from mobileclip_deploy.targets.executorch.quantization import quantize
    from mobileclip_deploy.targets.executorch.runner import RuntimeRunner
    from mobileclip_deploy.targets.executorch.stages import Stages

    backend = get_backend(job.options.backend or "xnnpack")
    given = job.calibration
    inputs = torch.from_numpy(calibration_inputs(job.variant, job.tower, None) if given is None else given)
    stages = Stages(job.tower, job.module, inputs[:COMPARED], PRECISIONS[job.precision].gate)
    module = backend.authored(job)
    stages.same("authored", module)
    path.write_bytes(lower(quantize(module, job.precision, inputs, stages), job, backend))
    stages.lowered(RuntimeRunner(path, torch.get_num_threads()))
