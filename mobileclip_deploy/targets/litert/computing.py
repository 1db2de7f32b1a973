"""Intermediate values of a .tflite."""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.litert.model_file import ModelFile
from mobileclip_deploy.targets.quiet import hold_back


def computed_values(
    content: bytes, model: ModelFile, inputs: npt.NDArray[np.generic], places: Collection[int] | None = None
) -> Iterator[dict[int, npt.NDArray[Any]]]:
    """Yields a file's values by tensor index, input by input; without `places` its float32 inputs and results.

    Uses one thread and LiteRT's plain kernels: XNNPACK keeps no intermediate values.
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
    (source,) = model.inputs.values()
    indices = float_places(model) if places is None else places
    for row in model.tensors[source].as_taken(inputs):
        interpreter.set_tensor(source, row[None])
        interpreter.invoke()
        yield {index: interpreter.get_tensor(index) for index in indices}


def float_places(model: ModelFile) -> list[int]:
    """Returns the indices of a file's float32 inputs and results, without weights that were dequantized from
    float16."""
    computing = [
        each for each in model.operators if each.type != "DEQUANTIZE" or model.tensors[each.inputs[0]].values is None
    ]
    computed = {*model.inputs.values(), *(index for operator in computing for index in operator.outputs)}
    return [index for index in sorted(computed) if model.tensors[index].dtype == "float32"]
