"""A tower as a folder of context binaries: the ONNX target's model, compiled for each chip."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.targets.onnx.graph import write_graph
from mobileclip_deploy.targets.qnn.chips import Chip
from mobileclip_deploy.targets.qnn.context import pointed
from mobileclip_deploy.targets.qnn.emulator import compile_for
from mobileclip_deploy.targets.values import TensorInfo, TowerJob

__all__ = ["write_artifact"]


def write_artifact(
    job: TowerJob, path: Path, ports: tuple[TensorInfo, TensorInfo], chips: tuple[Chip, ...], cpu: bool
) -> None:
    """Write the model, and compile it for each chip; in float32, which no NPU computes in, the model alone.

    Args:
        cpu: operations that an NPU does not take may stay on the CPU.

    Raises:
        ExportError: the tower was refused; of operations that an NPU does not take the text names the first.
    """
    path.mkdir(parents=True, exist_ok=True)
    source = path / f"{path.stem}.onnx"
    write_graph(job, source, *ports)
    for chip in chips if job.precision != "fp32" else ():
        _write_context(source, chip, cpu)


def _write_context(source: Path, chip: Chip, cpu: bool) -> None:
    made = compile_for(chip, source, cpu=cpu)
    if made.left and not cpu:
        first = made.left[0]
        raise ExportError(
            f"{len(made.left)} of {made.operations} operations of {source.stem} cannot run on the NPU of {chip.code}, "
            f"{first.type} ({first.name}: {first.reason.rstrip('.')}) among them; `allow_cpu` leaves them to the CPU"
        )
    context = source.with_name(f"{source.stem}.{chip.label}.onnx")
    binary = context.with_suffix(".bin")
    binary.write_bytes(made.binary)
    context.write_bytes(pointed(made.context, binary.name))
