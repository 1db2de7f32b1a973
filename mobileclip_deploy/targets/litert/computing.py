"""Values that a .tflite computes between its input and its output."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.litert.model_file import ModelFile
from mobileclip_deploy.targets.quiet import hold_back


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
    wanted = float_places(model) if places is None else places
    for row in model.tensors[place].as_taken(inputs):
        interpreter.set_tensor(place, row[None])
        interpreter.invoke()
        yield {number: interpreter.get_tensor(number) for number in wanted}


def float_places(model: ModelFile) -> list[int]:
    """What a file takes and computes in float32 of what it takes: a weight that was float16 is none of it."""
    computing = [
        one for one in model.operators if one.type != "DEQUANTIZE" or model.tensors[one.inputs[0]].values is None
    ]
    computed = {*model.inputs.values(), *(place for operator in computing for place in operator.outputs)}
    return [place for place in sorted(computed) if model.tensors[place].dtype == "float32"]
