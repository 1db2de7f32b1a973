"""Editing a written .mlpackage in place: its operations in the specification, its numbers in the weight file."""

import copy
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from targets.mil.programs import quiet

with quiet():
    from coremltools.proto import Model_pb2

_RECORD = struct.Struct("<IIQQQ32x")
_FLOATS = {1: 2, 2: 4}  # code of a type in the weight file -> bytes of a number
_DTYPES = {10: np.float16, 11: np.float32, 21: np.int8, 23: np.int32, 1: np.bool_}


class Planted:
    """A package that is being damaged; `save` writes it."""

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

    def save(self) -> None:
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
        return str(operation.inputs[parameter].arguments[0].name)

    @staticmethod
    def bind(operation: Any, parameter: str, value: str) -> None:
        del operation.inputs[parameter].arguments[:]
        operation.inputs[parameter].arguments.add().name = value

    @staticmethod
    def takes(operation: Any, value: str) -> bool:
        return any(argument.name == value for bound in operation.inputs.values() for argument in bound.arguments)

    def producer(self, value: str) -> Any:
        """The operation that computes a value, or the constant that holds it."""
        return next(op for op in self.block.operations if any(out.name == value for out in op.outputs))

    # Numbers

    def stored(self, part: str, kind: str = "") -> Iterator[tuple[Any, Any]]:
        """Every operation (of a type) with a weight that has this part (`scale`, `lut`, ...; `val`: a plain one), and
        the part's value.

        Raises:
            LookupError: there is none.
        """
        found = False
        for operation in self.block.operations:
            parameter = {"conv": "weight", "linear": "weight", "gather": "x"}.get(operation.type, "")
            if parameter not in operation.inputs or (kind and operation.type != kind):
                continue
            source = self.producer(self.source(operation, parameter))
            if source.type == "constexpr_sparse_to_dense":
                source = self.producer(self.source(source, "nonzero_data"))
            if part in source.attributes:  # before iOS 18, and of a plain constant
                found = True
                yield operation, source.attributes[part]
            elif part in source.inputs:
                found = True
                (bound,) = source.inputs[part].arguments
                inline = bound.WhichOneof("binding") == "value"
                yield operation, bound.value if inline else self.producer(bound.name).attributes["val"]
        if not found:
            raise LookupError(f"no {kind or 'operation'} of the package has a weight with {part}")

    def spoil(self, value: Any) -> None:
        """Another number in the place of the first one: by far, whatever it is."""
        if value.WhichOneof("value") == "blobFileValue":
            _, code, _, start, _ = _RECORD.unpack_from(self.weights, value.blobFileValue.offset)
            self.weights[start + _FLOATS.get(code, 1) - 1] ^= 0x41
        else:
            held = bytearray(value.immediateValue.tensor.bytes.values)
            held[-1] ^= 0x41
            value.immediateValue.tensor.bytes.values = bytes(held)

    def number(self, operation: Any, parameter: str) -> float:
        """A constant that stands in the specification."""
        value = self.producer(self.source(operation, parameter)).attributes["val"]
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind != "bytes":
            return float(getattr(tensor, kind).values[0])
        return float(np.frombuffer(tensor.bytes.values, _DTYPES[value.type.tensorType.dataType])[0])

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
