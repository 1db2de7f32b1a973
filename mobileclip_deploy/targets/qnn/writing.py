"""Writing of a tower as a folder of context binaries: the ONNX target's model, compiled for each chip."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.targets.onnx.editing import OnnxEditor, array, op
from mobileclip_deploy.targets.onnx.graph import write_graph
from mobileclip_deploy.targets.onnx.quantization import Quantizing
from mobileclip_deploy.targets.qnn.chips import Chip
from mobileclip_deploy.targets.qnn.context import beside, pointed
from mobileclip_deploy.targets.qnn.emulator import compile_for
from mobileclip_deploy.targets.qnn.options import QnnOptions
from mobileclip_deploy.targets.rules import StorageRules
from mobileclip_deploy.targets.values import TensorInfo, TowerJob

MISREAD = 16
"""Number of tokens after whose norm Qualcomm's compiler gets a product wrong.

It happens if the norm's result is rounded to 16 bits and the int8 weights have one scale per column. Only 2 of the 16
rows are then right, on every architecture. 1 to 15 and 17 to 257 tokens are right, and so are 8 bits and a single scale
(QAIRT 2.51; docs/qualcomm.md).
"""


def write_artifact(
    job: TowerJob, path: Path, ports: tuple[TensorInfo, TensorInfo], options: QnnOptions, rules: StorageRules
) -> None:
    """Writes the model, and compiles it for each chip. In float32, which no NPU computes, only the model is written.

    Raises:
        ExportError: the tower was refused; the text names the first operation that an NPU does not support.
    """
    path.mkdir(parents=True, exist_ok=True)
    source = path / f"{path.stem}.onnx"
    finish = partial(lift_norms, contexts=job.form.contexts)
    how = Quantizing(rules, beforehand=True, finish=finish)
    write_graph(job, source, ports, how)
    if job.precision == "fp32":
        return
    for chip in options.chips:
        for tokens in job.form.contexts or (0,):
            label = chip.label if tokens in (0, *job.form.contexts[-1:]) else f"{chip.label}-{tokens}"
            _write_context(source, label, chip, options.allow_cpu, tokens)


def _write_context(source: Path, label: str, chip: Chip, cpu: bool, tokens: int) -> None:
    compilation = compile_for(source, chip, cpu=cpu, tokens=tokens)
    if compilation.left and not cpu:
        first = compilation.left[0]
        raise ExportError(
            f"{len(compilation.left)} of {compilation.operations} operations of {source.stem} cannot run on the NPU of "
            f"{chip.code}, {first.type} ({first.name}: {first.reason.rstrip('.')}) among them; `allow_cpu` leaves "
            "them to the CPU"
        )
    context = beside(source, label)
    binary = context.with_suffix(".bin")
    binary.write_bytes(compilation.binary)
    context.write_bytes(pointed(compilation.context, binary.name, compilation.spilled))


def lift_norms(model: ir.Model, contexts: Sequence[int] = ()) -> None:
    """Makes norms of [N, MISREAD, C] with results rounded to 16 bits work on [N, MISREAD, 1, C]; results are the same.
    `contexts` lists the possible sizes of a free second dimension."""
    editor = OnnxEditor(model)
    for node in [
        node for node in editor.graph if node.op_type == "LayerNormalization" and _is_misread(node.outputs[0], contexts)
    ]:
        name = node.outputs[0].name
        lifted, normed, third = editor.value(f"{name}_lifted"), editor.value(f"{name}_normed"), np.array([2])
        norm = op("LayerNormalization", [lifted, *node.inputs[1:]], [normed])
        norm.attributes.update(node.attributes)
        axis = editor.constant(f"{name}_third", third)
        before, after = op("Unsqueeze", [node.inputs[0], axis], [lifted]), op("Squeeze", [normed, axis], [ir.Value()])
        editor.replace(node, [before, norm, after])


def _is_misread(normed: ir.Value, contexts: Sequence[int]) -> bool:
    shape = normed.shape
    if shape is None or len(shape) != 3 or MISREAD not in ((shape[1],) if isinstance(shape[1], int) else contexts):
        return False
    zeros = [array(user.inputs[2]) for user in normed.consumers() if user.op_type == "QuantizeLinear"]
    return any(zero is not None and zero.dtype == np.uint16 for zero in zeros)
