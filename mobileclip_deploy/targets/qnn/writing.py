"""A tower as a folder of context binaries: the ONNX target's model, compiled for each chip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.targets.onnx.graph import write_graph
from mobileclip_deploy.targets.onnx.quantization import Quantizing
from mobileclip_deploy.targets.qnn.chips import Chip
from mobileclip_deploy.targets.qnn.context import UNION, beside, pointed
from mobileclip_deploy.targets.qnn.emulator import compile_for
from mobileclip_deploy.targets.storage import layers
from mobileclip_deploy.targets.values import TensorInfo, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.targets.qnn.target import QnnTarget


def write_artifact(job: TowerJob, path: Path, ports: tuple[TensorInfo, TensorInfo], target: QnnTarget) -> None:
    """Write the model, and compile it for each chip, and for all of them where a union is wanted; in float32, which no
    NPU computes in, the model alone.

    Raises:
        UsageError: layers are to stay in float16 that it does not have.
        ExportError: the tower was refused; of operations that an NPU does not take the text names the first.
    """
    options = target.options
    options.require_known(job.tower, [layer.parameter for layer in layers(job.module)])
    path.mkdir(parents=True, exist_ok=True)
    source = path / f"{path.stem}.onnx"
    write_graph(job, source, *ports, Quantizing(target.rules(job.precision), beforehand=True))
    if job.precision == "fp32":
        return
    for chip in options.chips:
        _write_context(source, chip.label, (chip,), options.allow_cpu)
    if options.union:
        _write_context(source, UNION, options.chips, options.allow_cpu)


def _write_context(source: Path, label: str, chips: tuple[Chip, ...], cpu: bool) -> None:
    made = compile_for(source, *chips, cpu=cpu)
    if made.left and not cpu:
        first = made.left[0]
        raise ExportError(
            f"{len(made.left)} of {made.operations} operations of {source.stem} cannot run on the NPU of "
            f"{chips[0].code}, {first.type} ({first.name}: {first.reason.rstrip('.')}) among them; `allow_cpu` leaves "
            "them to the CPU"
        )
    context = beside(source, label)
    binary = context.with_suffix(".bin")
    binary.write_bytes(made.binary)
    context.write_bytes(pointed(made.context, binary.name, made.spilled))
