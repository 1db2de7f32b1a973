"""Editing a written .mlpackage in place: its operations in the specification, its numbers in the weight file."""

from __future__ import annotations

import copy
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mil.programs import quiet

from mobileclip_deploy.mil.blob import unpack_bits

with quiet():
    from coremltools.proto import MIL_pb2, Model_pb2

__all__ = ["Planted"]

Array = np.ndarray[Any, Any]
_RECORD = struct.Struct("<IIQQQ32x")
_STORAGE = {1: np.float16, 2: np.float32, 3: np.uint8, 4: np.int8, 14: np.int32}
_PACKED = {8: (4, True), 9: (1, False), 11: (4, False), 13: (6, False)}  # bits, and whether there are negative numbers
_DTYPES = {10: np.float16, 11: np.float32, 21: np.int8, 23: np.int32, 1: np.bool_}
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
# What of a compressed weight is a number of each of its elements, by the operation that restores it.
_ELEMENTS = {
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
    "constexpr_lut_to_dense": "indices",
    "constexpr_lut_to_sparse": "indices_nonzero_data",
}


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(dimension.constant.size for dimension in value.type.tensorType.dimensions)


class Planted:
    """A package that is being damaged; `save` writes it. Numbers are edited in the arrays that are given out."""

    def __init__(self, package: Path, into: Path | None = None) -> None:
        """Open a package, to be written over, or `into` a new one beside it."""
        self.package = into or package
        inner = Path("Data", "com.apple.CoreML")
        self.folder = self.package / inner
        self.spec = Model_pb2.Model.FromString((package / inner / "model.mlmodel").read_bytes())
        self.weights = bytearray((package / inner / "weights" / "weight.bin").read_bytes())
        if into is not None:
            shutil.copytree(package, into, ignore=shutil.ignore_patterns("model.mlmodel", "weight.bin"))
        (self.function,) = self.spec.mlProgram.functions.values()
        self.block = self.function.block_specializations[self.function.opset]
        self._open: list[tuple[tuple[Any, Any], Array]] = []  # values whose numbers were given out as copies
        self._sparse: list[tuple[Array, Array, Array]] = []  # in the weight's shape, where it is not zero, as stored

    def save(self) -> None:
        for dense, mask, kept in self._sparse:
            kept[...] = dense[mask]
        for value, numbers in self._open:
            self._write(value, numbers)
        (self.folder / "model.mlmodel").write_bytes(self.spec.SerializeToString())
        (self.folder / "weights" / "weight.bin").write_bytes(self.weights)

    # Operations

    def all(self, kind: str) -> list[Any]:
        """The operations of a type, in program order.

        Raises:
            LookupError: there is none: the fault cannot be planted in this package.
        """
        found = [operation for operation in self.block.operations if operation.type == kind]
        if not found:
            raise LookupError(f"the package has no {kind}")
        return found

    def find(self, kind: str, index: int = 0) -> Any:
        """The index-th operation of a type."""
        return self.all(kind)[index]

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
    def main(operation: Any) -> str:
        """The input that an operation is about."""
        return next(name for name in ("x", "input", "query", "values", "a") if name in operation.inputs)

    @staticmethod
    def bind(operation: Any, parameter: str, value: str) -> None:
        del operation.inputs[parameter].arguments[:]
        operation.inputs[parameter].arguments.add().name = value

    @staticmethod
    def takes(operation: Any, value: str) -> bool:
        """Whether an operation takes a value."""
        return any(argument.name == value for bound in operation.inputs.values() for argument in bound.arguments)

    def producer(self, value: str) -> Any:
        """The operation that computes a value, or the constant that holds it."""
        return next(op for op in self.block.operations if any(out.name == value for out in op.outputs))

    def instead(self, value: str, other: str) -> None:
        """Have everything that takes a value take another, but for what computes that one."""
        for operation in self.block.operations:
            for bound in operation.inputs.values():
                for argument in bound.arguments:
                    if argument.name == value and not any(out.name == other for out in operation.outputs):
                        argument.name = other

    # Numbers

    def shape(self, operation: Any) -> tuple[int, ...]:
        """Shape of the weight of an operation."""
        return _shape(self.producer(self.source(operation, "weight")).outputs[0])

    def blob(self, operation: Any, parameter: str = "weight") -> Array:
        """The numbers that stand for the elements of a constant, in its shape: floats, integers or indices."""
        return self._elements(self.producer(self.source(operation, parameter)))

    def floats(self, operation: Any, parameter: str = "weight") -> Array:
        """The floats of a constant: its numbers, or the scales or table that it is compressed by."""
        source = self.producer(self.source(operation, parameter))
        if source.type == "const":
            return self._numbers(source.attributes["val"])
        if source.type == "constexpr_sparse_to_dense":
            source = self.producer(self.source(source, "nonzero_data"))
        return self.part(source, "lut" if "lut" in {*source.attributes, *source.inputs} else "scale")

    def compressed(self, part: str, kind: str = "") -> Iterator[tuple[Any, Any]]:
        """Every operation of a type with what restores a weight that has this part (`scale`, `lut`, ...).

        Raises:
            LookupError: there is none.
        """
        found = False
        for operation in self.block.operations:
            for parameter in ("weight", "x") if operation.type in ("conv", "linear", "gather") else ():
                if parameter not in operation.inputs or (kind and operation.type != kind):
                    continue
                value = self.source(operation, parameter)
                for source in self.block.operations:
                    if source.type.startswith("constexpr") and any(out.name == value for out in source.outputs):
                        if source.type == "constexpr_sparse_to_dense":
                            source = self.producer(self.source(source, "nonzero_data"))
                        if part in {*source.attributes, *source.inputs}:
                            found = True
                            yield operation, source
        if not found:
            raise LookupError(f"no {kind or 'operation'} of the package has a weight with {part}")

    def part(self, source: Any, name: str) -> Array:
        """The numbers of a part of a compressed weight."""
        if name in source.attributes:  # before iOS 18
            return self._numbers(source.attributes[name])
        (bound,) = source.inputs[name].arguments
        inline = bound.WhichOneof("binding") == "value"
        return self._numbers(bound.value if inline else self.producer(bound.name).attributes["val"])

    def _elements(self, source: Any) -> Array:
        shape = _shape(source.outputs[0])
        if source.type == "const":
            return self._numbers(source.attributes["val"])
        if source.type == "constexpr_sparse_to_dense":
            inner = self.producer(self.source(source, "nonzero_data"))
            mask = self.part(inner, "indices_mask").astype(bool)
            dense, kept = np.zeros(shape, np.float32), self.part(inner, _ELEMENTS[inner.type])
            dense[mask] = kept
            self._sparse.append((dense, mask, kept))
            return dense
        if source.type == "constexpr_lut_to_dense" and "indices" in source.attributes:  # packed into plain bytes
            bits = self.part(source, "lut").size.bit_length() - 1
            return self._numbers(source.attributes["indices"], (bits, False), shape)
        return self.part(source, _ELEMENTS[source.type])

    def _numbers(
        self, value: Any, packed: tuple[int, bool] | None = None, shape: tuple[int, ...] | None = None
    ) -> Array:
        """Floats of the weight file in place; of all else a copy in float32, written back by `save`."""
        shape = shape or _shape(value)
        if value.WhichOneof("value") != "blobFileValue":
            tensor = value.immediateValue.tensor
            kind = tensor.WhichOneof("value")
            dtype = _DTYPES[value.type.tensorType.dataType]
            held = np.frombuffer(tensor.bytes.values, dtype) if kind == "bytes" else getattr(tensor, kind).values
            numbers = np.array(held, np.float32).reshape(shape)
        else:
            _, code, size, start, _ = _RECORD.unpack_from(self.weights, value.blobFileValue.offset)
            flat = np.frombuffer(self.weights, np.uint8, size, start)
            packed = packed or _PACKED.get(code)
            if packed is None:
                stored = flat.view(_STORAGE[code]).reshape(shape)
                if stored.dtype.kind == "f":
                    return stored
                numbers = stored.astype(np.float32)
            else:
                bits, signed = packed
                numbers = unpack_bits(flat, bits, int(np.prod(shape)), signed).reshape(shape).astype(np.float32)
        self._open.append(((value, packed), numbers))
        return numbers

    def _write(self, where: Any, numbers: Array) -> None:
        value, packed = where
        if value.WhichOneof("value") != "blobFileValue":
            tensor = value.immediateValue.tensor
            kind = tensor.WhichOneof("value")
            dtype = _DTYPES[value.type.tensorType.dataType]
            if kind == "bytes":
                tensor.bytes.values = numbers.astype(dtype).tobytes()
            else:
                getattr(tensor, kind).values[:] = numbers.astype(dtype).reshape(-1).tolist()
            return
        _, code, size, start, _ = _RECORD.unpack_from(self.weights, value.blobFileValue.offset)
        flat = np.frombuffer(self.weights, np.uint8, size, start)
        if packed is None:
            limits = np.iinfo(_STORAGE[code])
            flat[...] = np.clip(np.round(numbers), limits.min, limits.max).astype(_STORAGE[code]).reshape(-1).view("u1")
            return
        bits, signed = packed
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        whole = np.clip(np.round(numbers), low, high).astype(np.int16).reshape(-1, 1)
        flat[...] = np.packbits((whole >> np.arange(bits) & 1).astype(np.uint8).reshape(-1), bitorder="little")

    # Changes of operations

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

    def constant(self, values: Any, before: Any) -> str:
        """A new constant in front of an operation: its name."""
        array = np.asarray(values)
        fresh = MIL_pb2.Operation(type="const")
        name = f"planted_constant_{len(self.block.operations)}"
        self._label(fresh, name)
        output = fresh.outputs.add(name=name)
        output.type.tensorType.dataType = _CODES[array.dtype]
        output.type.tensorType.rank = array.ndim
        for size in array.shape:
            output.type.tensorType.dimensions.add().constant.size = size
        held = fresh.attributes["val"]
        held.type.CopyFrom(output.type)
        tensor = held.immediateValue.tensor
        if array.dtype == np.float16:
            tensor.bytes.values = array.tobytes()
        else:
            field = {"f": tensor.floats, "i": tensor.ints, "b": tensor.bools}[array.dtype.kind]
            field.values.extend(array.reshape(-1).tolist())
        self.block.operations.insert(list(self.block.operations).index(before), fresh)
        return name

    @staticmethod
    def _label(operation: Any, name: str) -> None:
        label = operation.attributes["name"]
        label.type.tensorType.dataType = 2
        label.immediateValue.tensor.strings.values.append(name)

    def operation(self, kind: str, before: Any, like: Any, name: str = "", **inputs: str) -> str:
        """A new operation in front of another, with a result of a type that is given: the result's name."""
        fresh = MIL_pb2.Operation(type=kind)
        name = name or f"planted_{kind}_{len(self.block.operations)}"
        self._label(fresh, name)
        for parameter, value in inputs.items():
            fresh.inputs[parameter].arguments.add().name = value
        fresh.outputs.add(name=name).type.CopyFrom(like)
        self.block.operations.insert(list(self.block.operations).index(before), fresh)
        return name

    def through(self, operation: Any, parameter: str, kind: str, y: float | Array) -> str:
        """Have an operation take an input through an elementwise one with a constant `y`: that one's name."""
        value = self.source(operation, parameter)
        declared = self.type_of(value)
        dtype = _DTYPES[declared.tensorType.dataType]
        name = self.name(operation)
        constant = self.constant(np.asarray(y, dtype), operation)
        result = self.operation(kind, self.named(name), declared, x=value, y=constant)
        self.bind(self.named(name), parameter, result)
        return result

    def type_of(self, value: str) -> Any:
        """The declared type of a value or input."""
        for port in self.function.inputs:
            if port.name == value:
                return port.type
        return next(out.type for out in self.producer(value).outputs if out.name == value)

    def bypass(self, operation: Any, parameter: str) -> None:
        """Remove an operation, as if its result were one of its inputs."""
        self.instead(operation.outputs[0].name, self.source(operation, parameter))
        self.block.operations.remove(operation)

    def insert_after(self, operation: Any, kind: str, value: float, name: str) -> Any:
        """Put an elementwise operation with a constant `y` between a `mul` with one and those that use its result."""
        result = operation.outputs[0].name
        self.instead(result, name)
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
