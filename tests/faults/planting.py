"""Editing a written .mlpackage in place: its operations in the specification, its numbers in the weight file."""

from __future__ import annotations

import copy
import struct
from pathlib import Path
from typing import Any

import numpy as np
from mil.programs import quiet

with quiet():
    from coremltools.proto import Model_pb2

__all__ = ["Planted"]

Array = np.ndarray[Any, Any]
_RECORD = struct.Struct("<IIQQQ32x")
_STORAGE = {1: np.float16, 2: np.float32, 3: np.uint8, 4: np.int8, 11: np.uint8, 14: np.int32}
_DTYPES = {10: np.float16, 11: np.float32, 23: np.int32, 1: np.bool_}


class Planted:
    """A package that is being damaged. `save` writes what was changed; values are written at once."""

    def __init__(self, package: Path) -> None:
        self.folder = package / "Data" / "com.apple.CoreML"
        self.spec = Model_pb2.Model.FromString((self.folder / "model.mlmodel").read_bytes())
        self.weights = bytearray((self.folder / "weights" / "weight.bin").read_bytes())
        (function,) = self.spec.mlProgram.functions.values()
        self.block = function.block_specializations[function.opset]

    def save(self) -> None:
        (self.folder / "model.mlmodel").write_bytes(self.spec.SerializeToString())
        (self.folder / "weights" / "weight.bin").write_bytes(self.weights)

    def find(self, kind: str, index: int = 0) -> Any:
        """The index-th operation of a type."""
        return [operation for operation in self.block.operations if operation.type == kind][index]

    def named(self, name: str) -> Any:
        """The operation of that name; one of a float16 package without the suffix it gives."""
        wanted = {name, f"{name}_cast_fp16", f"{name}_to_fp16"}
        return next(operation for operation in self.block.operations if self.name(operation) in wanted)

    @staticmethod
    def name(operation: Any) -> str:
        return str(operation.attributes["name"].immediateValue.tensor.strings.values[0])

    @staticmethod
    def source(operation: Any, parameter: str) -> str:
        """The value that a parameter is bound to."""
        return str(operation.inputs[parameter].arguments[0].name)

    @staticmethod
    def bind(operation: Any, parameter: str, value: str) -> None:
        operation.inputs[parameter].arguments[0].name = value

    def producer(self, value: str) -> Any:
        """The operation that computes a value, or the constant that holds it."""
        return next(op for op in self.block.operations if any(out.name == value for out in op.outputs))

    def blob(self, operation: Any, parameter: str = "weight") -> Array:
        """The numbers of a constant in the weight file, writable in place."""
        return self._view(self.producer(self.source(operation, parameter)).attributes["val"])

    def compressed(self, operation: Any, parameter: str, part: str) -> Array:
        """The numbers of a part (`indices`, `lut`, ...) of a compressed weight, as stored: packed below 8 bits."""
        source = self.producer(self.source(operation, parameter))
        if part in source.attributes:
            return self._view(source.attributes[part])
        return self._view(self.producer(self.source(source, part)).attributes["val"])

    def _view(self, value: Any) -> Array:
        _, code, size, start, _ = _RECORD.unpack_from(self.weights, value.blobFileValue.offset)
        flat = np.frombuffer(self.weights, np.uint8, size, start)
        if code in (11,):
            return flat
        shape = [dimension.constant.size for dimension in value.type.tensorType.dimensions]
        return flat.view(_STORAGE[code]).reshape(shape)

    def set(self, operation: Any, parameter: str, value: Any) -> None:
        """Give a parameter a small constant of its own, of the type and shape that it had; text too."""
        old = self.producer(self.source(operation, parameter))
        fresh = copy.deepcopy(old)
        fresh.outputs[0].name = f"planted_{parameter}_{len(self.block.operations)}"
        fresh.attributes["name"].immediateValue.tensor.strings.values[0] = fresh.outputs[0].name
        tensor = fresh.attributes["val"].immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "bytes":
            dtype = _DTYPES[fresh.outputs[0].type.tensorType.dataType]
            tensor.bytes.values = np.asarray(value, dtype).tobytes()
        else:
            held = getattr(tensor, kind).values
            del held[:]
            held.extend(np.asarray(value).reshape(-1).tolist() if not isinstance(value, str) else [value])
        index = list(self.block.operations).index(operation)
        self.block.operations.insert(index, fresh)
        self.bind(self.block.operations[index + 1], parameter, fresh.outputs[0].name)

    def bypass(self, operation: Any, parameter: str) -> None:
        """Remove an operation, as if its result were one of its inputs."""
        result, replacement = operation.outputs[0].name, self.source(operation, parameter)
        for user in self.block.operations:
            for bound in user.inputs.values():
                for argument in bound.arguments:
                    if argument.name == result:
                        argument.name = replacement
        self.block.operations.remove(operation)

    def insert_after(self, operation: Any, kind: str, value: float, name: str) -> Any:
        """Put an elementwise operation with a constant `y` between a `mul` with one and those that use its result."""
        result = operation.outputs[0].name
        for user in self.block.operations:
            for bound in user.inputs.values():
                for argument in bound.arguments:
                    if argument.name == result:
                        argument.name = name
        fresh = copy.deepcopy(operation)
        fresh.type, fresh.outputs[0].name = kind, name
        fresh.attributes["name"].immediateValue.tensor.strings.values[0] = name
        self.bind(fresh, "x", result)
        index = list(self.block.operations).index(operation) + 1
        self.block.operations.insert(index, fresh)
        self.set(self.block.operations[index], "y", value)
        return self.named(name)

    def retype(self, operation: Any, kind: str) -> None:
        """Make an operation one of another type, with the input `x` alone."""
        operation.type = kind
        for parameter in [name for name in operation.inputs if name != "x"]:
            del operation.inputs[parameter]
