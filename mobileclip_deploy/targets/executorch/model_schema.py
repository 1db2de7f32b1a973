"""`get_model_schema`: a method of a .pte that answers with what `forward` takes and gives, as JSON.

react-native-executorch calls it when it loads a model, and holds what a pipeline expects against it. The form is its
`ModelSpec` (docs/docs/03-core-and-advanced/07-exporting-custom-models.md of software-mansion/react-native-executorch at
498e45597a73d8494798954a9aa5c98ff4942cd6): methods, each with inputs, outputs and runtimeConstraints, whose dimensions
are constants or ranges. Without the method it takes every dimension for a constant.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mobileclip_deploy.errors import Malformed
from mobileclip_deploy.targets.executorch.options import FreeShape
from mobileclip_deploy.targets.executorch.program_file import Fields, ProgramFile
from mobileclip_deploy.targets.flatbuffer import at
from mobileclip_deploy.targets.values import TensorInfo

METHOD = "get_model_schema"
# ScalarType of ExecuTorch's schema -> what react-native-executorch calls it.
NAMES = {0: "uint8", 3: "int32", 4: "int64", 6: "float32"}

Sizes = tuple[str, Sequence[int]]
"""A tensor's type and its largest sizes."""


def model_schema(source: TensorInfo, result: TensorInfo, free: FreeShape, largest_batch: int) -> str:
    """What a program of these tensors answers; the same tensors give the same text."""
    return _text(_method(_largest(source, free, largest_batch), _largest(result, free, largest_batch), free))


def _largest(info: TensorInfo, free: FreeShape, largest_batch: int) -> Sizes:
    return info.dtype, (largest_batch if free.batch else 1, *info.shape[1:])


def _method(source: Sizes, result: Sizes, free: FreeShape) -> dict[str, Any]:
    sides = ("input", "output")  # as many embeddings come out as prompts went in
    same = {"kind": "equality", "dims": [{"paramSide": side, "tensorIdx": 0, "dimIdx": 0} for side in sides]}
    return {
        "inputs": [_tensor(source, free)],
        "outputs": [_tensor(result, FreeShape(free.batch))],
        "runtimeConstraints": [same] if free.batch else [],
    }


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


def _text(method: dict[str, Any]) -> str:
    return json.dumps({"forward": method}, separators=(",", ":"))


def check_schema(program: ProgramFile) -> None:
    """Hold what a program says of itself against its tensors.

    Raises:
        Malformed: it has other methods than `forward` and this one, this one computes something, or says otherwise.
    """
    others = [plan for plan in program.fields["plans"] if plan["name"] != "forward"]
    if not others and len(program.fields["plans"]) == 1:
        return
    if [plan["name"] for plan in others] != [METHOD] or len(program.fields["plans"]) != 2:
        names = ", ".join(str(plan["name"]) for plan in program.fields["plans"])
        raise Malformed(f"its methods are {names}, not forward, and at most {METHOD} beside it")
    said = _answer(others[0])
    if said not in _possible(program):
        raise Malformed(f"its {METHOD} says {said[:200]}, and its tensors are otherwise")


def _answer(plan: Fields) -> str:
    if plan["inputs"] or len(plan["outputs"]) != 1 or any(chain["instructions"] for chain in plan["chains"]):
        raise Malformed(f"its method {METHOD} is no constant")
    found = at(plan["values"], plan["outputs"][0], "value")["value"]
    if found is None or found[0] != "String":
        raise Malformed(f"its method {METHOD} answers no text")
    return str(found[1]["value"])


def _possible(program: ProgramFile) -> list[str]:
    """What may be said of its tensors: the file does not say which length of ids is the shortest."""
    plan = program.plan
    if (len(plan["inputs"]), len(plan["outputs"])) != (1, 1):
        return []
    source, result = (_sizes(plan, plan[side][0]) for side in ("inputs", "outputs"))
    given, _ = program.inputs[0], program.outputs[0]
    if given.shape[:1] == (0,):
        return [_text(_method(source, result, FreeShape(batch=True)))]
    if given.shape[-1:] == (0,):
        return [_text(_method(source, result, FreeShape(shortest=one))) for one in range(1, source[1][-1])]
    return [_text(_method(source, result, FreeShape()))]


def _sizes(plan: Fields, value: int) -> Sizes:
    _, tensor = at(plan["values"], value, "value")["value"]
    return NAMES.get(tensor["scalar_type"], "another type"), tuple(tensor["sizes"])
