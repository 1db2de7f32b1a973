"""Inputs and outputs of a program: their descriptions in the specification, and the conversion of values."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.inspection import PortInspection as Port
from mobileclip_deploy.targets.mil.constants import MilConstant
from mobileclip_deploy.targets.mil.graph import Graph, Node, ValueReference
from mobileclip_deploy.targets.mil.types import ValueType

_COLOURS = {10: "GRAY", 20: "RGB", 30: "BGR", 40: "GRAY16"}
_ARRAY_TYPES = {65568: "float32", 65600: "float64", 131104: "int32", 65552: "float16", 131080: "int8"}


def _only_user(graph: Graph, name: str) -> Node | None:
    users = [node for node in graph.nodes for bound in node.operands.values() for used, _ in bound if used == name]
    return users[0] if len(users) == 1 and name not in graph.outputs else None


def _numbers(node: Node, parameter: str) -> tuple[float, ...] | None:
    (_, operand), *others = node.operands[parameter]
    if others or isinstance(operand, ValueReference) or not isinstance(operand, MilConstant):
        return None
    array = operand.array()
    return tuple(float(v) for v in array.reshape(-1)) if array.size in (1, 3) else None


def _preprocessing(graph: Graph, name: str) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Returns the scale and bias that coremltools' ImageType puts at the start of the program."""
    constants: dict[str, tuple[float, ...]] = {}
    followers = {"mul": ("mul", "add", "sub"), "add": ("add", "sub"), "sub": ("add", "sub")}
    while (node := _only_user(graph, name)) is not None and len(node.outputs) == 1:
        if node.kind in followers and set(node.operands) == {"x", "y"}:
            numbers = _numbers(node, "y") or _numbers(node, "x")
            if numbers is None or node.kind in constants or (node.kind == "mul" and constants):
                break
            constants["add" if node.kind == "sub" else node.kind] = (
                tuple(-n for n in numbers) if node.kind == "sub" else numbers
            )
        elif node.kind != "cast":
            break
        name = node.outputs[0][0]
    return constants.get("mul"), constants.get("add")


def _kind(feature: Any, declared: ValueType) -> str:
    kinds = {
        "imageType": "image",
        "multiArrayType": "tensor",
        "dictionaryType": "probabilities",
        "stringType": "label",
        "int64Type": "label",
    }
    kind = kinds.get(feature.type.WhichOneof("Type"))
    if kind is None:
        raise InvalidInput(f"{feature.name!r} is of type {feature.type.WhichOneof('Type')}, which is not evaluated")
    if kind == "image" and (len(declared.shape) != 4 or declared.shape[1] not in (1, 3)):
        raise InvalidInput(f"the image {feature.name!r} is {declared} in the program, not [1, C, H, W]")
    if kind == "tensor":
        outside = _ARRAY_TYPES.get(feature.type.multiArrayType.dataType)
        floats = outside is not None and outside.startswith("float")
        halves = (outside == "float16", declared.dtype.name == "float16")  # nothing casts between the two
        if outside is None or (declared.dtype.kind == "float") != floats or halves[0] != halves[1]:
            raise InvalidInput(f"{feature.name!r} is {outside} outside and {declared} in the program")
        shape = tuple(feature.type.multiArrayType.shape)
        if shape and declared.static_shape() is not None and not declared.admits(shape) and declared.shape != ():
            raise InvalidInput(f"{feature.name!r} has shape {list(shape)} outside and is {declared} in the program")
    return kind


def _port(feature: Any, declared: ValueType, graph: Graph, incoming: bool) -> Port:
    kind = _kind(feature, declared)
    if kind == "image":
        colour = _COLOURS.get(feature.type.imageType.colorSpace)
        if colour is None:
            raise InvalidInput(f"the image {feature.name!r} has no known colour layout")
        if declared.shape[1] != (3 if colour in ("RGB", "BGR") else 1):
            raise InvalidInput(f"the image {feature.name!r} is {colour} outside and is {declared} in the program")
        scale, bias = _preprocessing(graph, feature.name) if incoming else (None, None)
        details: dict[str, Any] = {"colour": colour, "scale": scale, "bias": bias}
    else:
        array = feature.type.multiArrayType  # empty if it is not a tensor
        shapes = tuple(tuple(shape.shape) for shape in array.enumeratedShapes.shapes)
        ranges = tuple((int(r.lowerBound), int(r.upperBound)) for r in array.shapeRange.sizeRanges)
        details = {"shapes": shapes or None, "ranges": ranges or None}
    return Port(name=feature.name, kind=kind, dtype=declared.dtype.name, shape=declared.shape, **details)


def read_ports(features: Iterable[Any], types: dict[str, ValueType], graph: Graph, incoming: bool) -> tuple[Port, ...]:
    """Reads the descriptions of a program's inputs or outputs.

    Args:
        features: the protobuf messages (FeatureDescription).
        types: the types in the program of the values with those names.
        graph: the program.
        incoming: True if they are inputs.

    Raises:
        InvalidInput: names or types differ between description and program.
    """
    listed = list(features)
    names = [feature.name for feature in listed]
    if sorted(names) != sorted(types):
        side = "inputs" if incoming else "outputs"
        raise InvalidInput(f"the {side} are described as {sorted(names)}, in the program they are {sorted(types)}")
    return tuple(_port(feature, types[feature.name], graph, incoming) for feature in listed)


def _image(value: npt.NDArray[Any], port: Port) -> npt.NDArray[Any]:
    if port.colour not in ("RGB", "BGR"):
        raise InvalidInput(f"the image {port.name!r} is {port.colour}, which is not evaluated")
    if value.ndim == 4 and value.shape[0] == 1:
        value = value[0]
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3:
        actual = f"{value.dtype} {list(value.shape)}"
        raise InvalidInput(f"the image {port.name!r} is {actual}; expected uint8, height x width x 3 in RGB order")
    return (value if port.colour == "RGB" else value[:, :, ::-1]).transpose(2, 0, 1)[None]


def read_input(value: Any, port: Port, declared: ValueType) -> torch.Tensor:
    """Converts a caller's value to the tensor that the program starts from.

    Args:
        value: for an image uint8 [H, W, 3] in RGB order; otherwise numbers in the shape of the port.
        port: the input.
        declared: its type in the program.

    Raises:
        InvalidInput: shape or type do not fit.
    """
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if port.kind == "image":
        array = _image(array, port)
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and declared.dtype.kind != "float"):
        raise InvalidInput(f"the input {port.name!r} is {array.dtype}, expected {declared.dtype}")
    if not declared.admits(array.shape) or not _allowed(array.shape, port):
        raise InvalidInput(f"the input {port.name!r} has shape {list(array.shape)}, expected {_shapes(port)}")
    if declared.dtype.kind in ("int", "uint") and array.size:
        bounds = np.iinfo(declared.dtype.storage)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise InvalidInput(f"the input {port.name!r} holds values outside {declared.dtype}")
    return torch.tensor(np.ascontiguousarray(array)).to(declared.dtype.compute)


def _allowed(shape: Sequence[int], port: Port) -> bool:
    if port.shapes and tuple(shape) not in port.shapes:
        return False
    return not port.ranges or all(
        low <= size and (high < 0 or size <= high) for size, (low, high) in zip(shape, port.ranges, strict=False)
    )


def _shapes(port: Port) -> str:
    if port.shapes:
        return "one of " + ", ".join(str(list(shape)) for shape in port.shapes)
    return str([size if size is not None else "?" for size in port.shape]) + (
        f" within {list(port.ranges)}" if port.ranges else ""
    )


def write_output(value: Any, declared: ValueType, precision: str) -> Any:
    """Returns a value of the program as a numpy array; labels and dictionaries as they are.

    float16 values are float16 if they were rounded to it, and float32 in float32 arithmetic.
    """
    if not isinstance(value, torch.Tensor):
        return value
    array = value.detach().contiguous().numpy()
    if declared.dtype.name == "float16":
        return array.astype(np.float16 if precision == "float16" else np.float32)
    return np.array(array, dtype=declared.dtype.storage)
