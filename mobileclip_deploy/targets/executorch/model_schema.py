"""`get_model_schema`: a method of a .pte that returns the inputs and outputs of `forward` as JSON.

react-native-executorch calls it when it loads a model, and compares it with a pipeline's expectations. The form is its
`ModelSpec` (docs/docs/03-core-and-advanced/07-exporting-custom-models.md of software-mansion/react-native-executorch at
498e45597a73d8494798954a9aa5c98ff4942cd6): methods, each with inputs, outputs and runtimeConstraints, whose dimensions
are constants or ranges. Without the method it assumes that every dimension is constant.
"""

import json
from collections.abc import Sequence
from typing import Any

from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.executorch.backends import FreeShape
from mobileclip_deploy.targets.executorch.program_file import ProgramFile
from mobileclip_deploy.targets.flatbuffer import at
from mobileclip_deploy.targets.values import TensorInfo

METHOD = "get_model_schema"

Sizes = tuple[str, Sequence[int]]
"""Type of a tensor, and its largest sizes."""


def model_schema(source: TensorInfo, result: TensorInfo, free: FreeShape, largest_batch: int) -> str:
    """Returns the schema of a program with these tensors; the same tensors give the same text."""
    batch = largest_batch if free.batch else 1
    source_sizes, result_sizes = ((info.dtype, (batch, *info.shape[1:])) for info in (source, result))
    return _said(source_sizes, result_sizes, free)


def _said(source: Sizes, result: Sizes, free: FreeShape) -> str:
    sides = ("input", "output")  # the number of embeddings equals the number of prompts
    same = {"kind": "equality", "dims": [{"paramSide": side, "tensorIdx": 0, "dimIdx": 0} for side in sides]}
    method = {
        "inputs": [_tensor(source, free)],
        "outputs": [_tensor(result, FreeShape(free.batch))],
        "runtimeConstraints": [same] if free.batch else [],
    }
    return json.dumps({"forward": method}, separators=(",", ":"))


def _tensor(sizes: Sizes, free: FreeShape) -> dict[str, Any]:
    dtype, largest = sizes
    shape: list[dict[str, Any]] = [{"kind": "constant", "value": size} for size in largest]
    if free.batch:
        shape[0] = _range(1, largest[0])
    if free.shortest is not None:
        shape[-1] = _range(free.shortest, largest[-1])
    return {"kind": "Tensor", "dtype": dtype, "shape": shape}


def _range(least: int, most: int) -> dict[str, Any]:
    return {"kind": "range", "range": {"min": least, "max": most, "step": 1}}


def check_schema(program: ProgramFile) -> None:
    """Compares a program's schema with its tensors.

    Raises:
        Malformed: it has other methods than `forward` and this one, this one computes something, or the schema differs.
    """
    plans = {str(plan["name"]): plan for plan in program.fields["plans"]}
    if len(program.fields["plans"]) != len(plans) or not {"forward"} <= plans.keys() <= {"forward", METHOD}:
        names = ", ".join(str(plan["name"]) for plan in program.fields["plans"])
        raise Malformed(f"its methods are {names}; expected forward, and optionally {METHOD}")
    if (plan := plans.get(METHOD)) is None:
        return
    if plan["inputs"] or len(plan["outputs"]) != 1 or any(chain["instructions"] for chain in plan["chains"]):
        raise Malformed(f"its method {METHOD} is not a constant")
    value = at(plan["values"], plan["outputs"][0], "value")["value"]
    if value is None or value[0] != "String":
        raise Malformed(f"its method {METHOD} does not return a text")
    if (schema := str(value[1]["value"])) not in _possible(program):
        raise Malformed(f"its {METHOD} describes {schema[:200]}, but its tensors differ")


def _possible(program: ProgramFile) -> list[str]:
    """Returns all valid schemas of its tensors: the file does not record the shortest length of ids."""
    inputs, outputs = program.inputs, program.outputs
    if (len(inputs), len(outputs)) != (1, 1):
        return []
    source, result = (
        (info.dtype, tuple(program.tensor(program.plan[side][0])["sizes"]))
        for info, side in ((inputs[0], "inputs"), (outputs[0], "outputs"))
    )
    if inputs[0].shape[:1] == (0,):
        return [_said(source, result, FreeShape(batch=True))]
    if inputs[0].shape[-1:] == (0,):
        return [_said(source, result, FreeShape(shortest=length)) for length in range(1, source[1][-1])]
    return [_said(source, result, FreeShape())]
