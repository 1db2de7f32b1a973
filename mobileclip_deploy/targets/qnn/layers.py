"""Noise of each layer on the NPU: the value after each layer by the emulator, and by other runtimes."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import onnx.shape_inference

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.targets.artifact import LayerNoise
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
from mobileclip_deploy.targets.onnx.quantized import plain_model
from mobileclip_deploy.targets.onnx.runner import OnnxRunner
from mobileclip_deploy.targets.qnn.chips import Chip
from mobileclip_deploy.targets.qnn.emulator import emulated

LAYERS = ("Conv", "Gemm", "MatMul")
RESTORING = ("DequantizeLinear", "Cast", "Mul", "Slice", "Split", "Reshape", "Transpose")


def layer_noise(artifact: OnnxArtifact, chip: Chip, inputs: npt.NDArray[np.generic]) -> Iterator[LayerNoise]:
    """Yields the noise of the value after each layer, in the graph's order: on a chip's emulator, and on ONNX Runtime's
    CPU, each against the same weights in float32 with no activation quantized.

    The model is compiled again with these values as results. For a quantized value the dequantized one is used, so that
    the layer and its quantization stay fused.

    Raises:
        InvalidInput: the artifact is damaged.
        NotRun: there is no compiler here.
        RuntimeFailed: it refused the model.
    """
    values = dict(_behind(artifact.model))
    written, plain = artifact.copied(), plain_model(artifact)
    for model in (written, plain):
        existing = {port.name for port in model.graph.output}
        infos = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
        model.graph.output.extend(infos[name] for name in values.values() if name not in existing)
    exact, cpu = (_computed(artifact, model, inputs) for model in (plain, written))
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        path.write_bytes(written.SerializeToString())
        npu = emulated(chip, path, artifact.inputs[0], inputs)
    for layer, name in values.items():
        yield LayerNoise(layer, _decibels(exact[name], npu[name]), _decibels(exact[name], cpu[name]))


def _behind(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Yields each layer, and the name of the value after it, or after its bias and its rounding."""
    graph = model.graph
    users, makers = defaultdict(list), {name: node for node in graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for name in node.input:
            users[name].append(node)

    def stored(value: str) -> str | None:
        """Returns the constant that a weight is dequantized from. None if there is none."""
        while value not in constants and value in makers and makers[value].op_type in RESTORING:
            value = makers[value].input[0]
        return value if value in constants else None

    for node in graph.node:
        layer = stored(node.input[1]) if node.op_type in LAYERS else None
        if layer is None:
            continue
        (value,) = node.output
        for kind in ("Add", "QuantizeLinear", "DequantizeLinear"):
            if len(users[value]) == 1 and users[value][0].op_type == kind:
                biases = [name for name in users[value][0].input if name in constants]
                if kind == "Add" and not biases:  # not a bias: the other summand comes from another branch
                    continue
                layer = biases[0] if kind == "Add" and "." not in layer else layer
                value = users[value][0].output[0]
        if "." in layer:  # a constant outside of layers, such as a mask, has a name without dots
            yield layer.removesuffix("_int8").removesuffix(".weight").removesuffix(".bias"), value


def _computed(
    artifact: OnnxArtifact, model: onnx.ModelProto, inputs: npt.NDArray[np.generic]
) -> dict[str, npt.NDArray[np.float32]]:
    runner = OnnxRunner(artifact.file, model.SerializeToString(), as_written=True)
    rows = [runner.values(row) for row in np.split(inputs, len(inputs))]
    return {name: np.concatenate([np.asarray(row[name], np.float32) for row in rows]) for name in rows[0]}


def _decibels(exact: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
    """Returns the signal-to-noise ratio of all elements in dB; infinite if they are equal."""
    noise = float(np.square(exact.astype(np.float64) - found).sum())
    signal = float(np.square(exact.astype(np.float64)).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-300) / noise))
