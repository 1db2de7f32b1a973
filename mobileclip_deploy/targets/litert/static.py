"""Products in int8 with ranges measured beforehand, by LiteRT's own quantizer with ranges of ours.

The quantizer knows which operators must share a scale and how a bias is rounded. Its own calibration follows the first
input with a moving average, and its own recipe makes integers of inputs and outputs too; neither is used.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.targets.litert.model_file import ModelFile
from mobileclip_deploy.targets.litert.pixels import as_taken
from mobileclip_deploy.targets.quiet import hold_back
from mobileclip_deploy.targets.ranges import Range, ranges_of

# What else there is stays float32: with GELU and additions in int8 as well it is no faster, and nano loses 0.6 dB.
OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def quantize_static(
    content: bytes, model: ModelFile, layers: Collection[int], inputs: npt.NDArray[np.generic]
) -> bytes:
    """A float32 file in int8, with float32 inputs and outputs.

    Args:
        model: the file read.
        layers: the weights whose products take such ranges; all others stay as they are.
        inputs: of the tower, [N, ...], which ranges are measured on.
    """
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.quantizer import AlgorithmName, Quantizer

    quantizer = Quantizer(bytearray(content))
    for name in OPERATORS:
        quantizer.add_static_config(".*", TFLOperationName(name), activation_num_bits=8, weight_num_bits=8)
    for operator in model.operators:
        if operator.type in OPERATORS and operator.inputs[1] not in layers:
            scope = f"^{re.escape(model.tensors[operator.outputs[0]].name)};$"
            quantizer.update_quantization_recipe(
                scope, TFLOperationName(operator.type), algorithm_key=AlgorithmName.NO_QUANTIZE
            )
    measured = {
        name: {"min": np.float32(known.low), "max": np.float32(known.high)}
        for name, known in measure_ranges(content, model, inputs).items()
    }
    found = quantizer.quantize(measured).quantized_model
    if found is None:
        raise ExportError("LiteRT's quantizer gave no file")
    return bytes(found)


def measure_ranges(content: bytes, model: ModelFile, inputs: npt.NDArray[np.generic]) -> dict[str, Range]:
    """The range of everything that a float32 file computes, by the tensor's name, over all inputs."""
    names = {place: model.tensors[place].name for place in _floats(model)}
    if len(set(names.values())) != len(names):
        raise ExportError("two tensors of the converted file have one name; their ranges cannot be told apart")

    def values() -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        for found in computed_values(content, model, inputs):
            yield {names[place]: value for place, value in found.items()}

    return ranges_of(values)


def computed_values(
    content: bytes, model: ModelFile, inputs: npt.NDArray[np.generic], places: Collection[int] | None = None
) -> Iterator[dict[int, npt.NDArray[Any]]]:
    """What a file computes, by the tensor's place, input by input; of no `places` what it takes and computes in
    float32.

    One thread and LiteRT's plain kernels: XNNPACK keeps no values in between.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with hold_back():
        interpreter = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    (place,) = model.inputs.values()
    wanted = _floats(model) if places is None else places
    for row in as_taken(inputs, model.tensors[place]):
        interpreter.set_tensor(place, row[None])
        interpreter.invoke()
        yield {number: interpreter.get_tensor(number) for number in wanted}


def _floats(model: ModelFile) -> list[int]:
    """What a file takes and computes in float32 of what it takes: a weight that was float16 is none of it."""
    computing = [
        one for one in model.operators if one.type != "DEQUANTIZE" or model.tensors[one.inputs[0]].values is None
    ]
    computed = {*model.inputs.values(), *(place for operator in computing for place in operator.outputs)}
    return [place for place in sorted(computed) if model.tensors[place].dtype == "float32"]
