"""An opened .aimodel: its metadata, its program as MLIR, and its constants. Unreadable content, or content that no
export writes, raises InvalidInput."""

import hashlib
import json
import math
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import read_json
from mobileclip_deploy.base.interpreter import python
from mobileclip_deploy.errors import InvalidInput, Malformed, Unread, reraising
from mobileclip_deploy.targets.coreai.bytecode import read_resources
from mobileclip_deploy.targets.quiet import hold_back, quiet
from mobileclip_deploy.targets.vendor_internals.coreai import MODULE

PROGRAM, HASH, METADATA = "main.mlirb", "main.hash", "metadata.json"
# Key of the metadata that the writer of the asset defined.
OWN = "creatorDefinedMetadata"
TRY = "import sys; from coreai.authoring import AIModelAsset; AIModelAsset.load(sys.argv[1]).program"
# sha256 of the programs that this process has read or written.
_READABLE: set[bytes] = set()
RESOURCE = re.compile(r"dense_resource<([^>]+)>")
PICTURE = re.compile(r"!coreai\.image<<k(\w+)> x (\d+) : i64 x (\d+) : i64>")
# Prefix of a picture's type; its four letters follow.
IMAGE = "image"
CONSTANT = "coreai.constant"
# Name of the function in a program of one; Core AI looks for it if no other is named.
FUNCTION = "main"
PORT_NAME = re.compile(r'coreai\.name = "([^"]*)"')
# Operands of an operation: the index of the one with the axes, and of the value that they belong to.
AXES = {
    **dict.fromkeys(("softmax", "reduce_mean", "reduce_sum", "reduce_max", "transpose"), (1, 0)),
    "split": (2, 0),
    "concat": (0, 1),
}
TENSOR = re.compile(r"tensor<((?:\d+x)*)(\w+)>")
DTYPES = {"f16": "float16", "f32": "float32", "f64": "float64", "i1": "bool"}
WHOLE_BYTES = re.compile(r"(?:u?int|float)(?:8|16|32|64)")


@dataclass(frozen=True)
class TensorType:
    """Type and shape of a value. `dtype` is numpy's name, or int4, uint6 and so on. A picture has `image32BGRA`, and
    height and width."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bits(self) -> int:
        return 1 if self.dtype == "bool" else int(re.sub(r"\D", "", self.dtype))

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


Port = tuple[str, TensorType]


def tensor_type(value: Any) -> TensorType:
    """Returns type and shape of a value of the program."""
    text = str(value.type)
    match = TENSOR.fullmatch(text)
    if match is None and (picture := PICTURE.fullmatch(text)) is not None:
        form, height, width = picture.groups()
        return TensorType(f"{IMAGE}{form}", (int(height), int(width)))
    if match is None:
        raise InvalidInput(f"a value of type {text}, which exports never write") from Unread()
    sizes, element = match.groups()
    kind = {"si": "int", "ui": "uint"}.get(element[:2])
    dtype = f"{kind}{element[2:]}" if kind else DTYPES.get(element, element)
    return TensorType(dtype, tuple(int(size) for size in sizes.split("x")[:-1]))


class Asset:
    """One .aimodel. The caller may change its module; nothing is written back.

    `metadata`: of metadata.json. `functions`: the operations `coreai.graph` that a user can call, by name; `graphs`:
    also those that only functions can call.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = _metadata(path)
        _check_program(path)
        with quiet(), hold_back():
            from coreai.authoring import AIModelAsset

            # MLIR's parser raises errors of any kind.
            with reraising(f"{path} has no readable Core AI program", Exception):
                self.program = AIModelAsset.load(path).program
        self.module = MODULE(self.program)
        self.graphs: dict[str, Any] = {}
        self.functions: dict[str, Any] = {}
        for operation in self.module.body.operations:
            if operation.name != "coreai.graph":
                raise InvalidInput(f"{path} holds a {operation.name}, which exports never write") from Unread()
            name = json.loads(str(operation.attributes["sym_name"]))
            self.graphs[name] = operation
            if "priv" not in operation.attributes:
                self.functions[name] = operation
        for graph in self.graphs.values():
            self._check_axes(graph)

    def _check_axes(self, graph: Any) -> None:
        """Refuses an axis that a value does not have, and a result of another shape than its axes leave. Apple's
        runtime ends the process on either (coreai-core 1.0.0b3)."""
        for operation in operations(graph):
            indices = AXES.get(operation.name.removeprefix("coreai."))
            owner = operation.operands[indices[0]].owner if indices is not None else None
            if indices is None or getattr(owner, "name", "") != CONSTANT:
                continue
            shape, axes = tensor_type(operation.operands[indices[1]]).shape, self.numbers(owner).reshape(-1).tolist()
            wrong = any(not -len(shape) <= axis < len(shape) for axis in axes)
            if not wrong and operation.name.startswith("coreai.reduce_"):
                left = list(shape)
                for axis in axes:
                    left[axis] = 1
                wrong = tensor_type(operation.results[0]).shape != tuple(left)
            if wrong:
                raise InvalidInput(
                    f"{self.path}: a {operation.name} over axes {axes} of a value of shape {list(shape)}"
                )

    def function(self, name: str | None) -> Any:
        """Returns the function of that name; for None the only one."""
        if name is None and len(self.functions) == 1:
            return next(iter(self.functions.values()))
        if name not in self.functions:
            listed = ", ".join(self.functions) or "none"
            problem = "name one of them" if name is None else f"{name!r} is not among them"
            raise InvalidInput(f"{self.path} has the functions {listed}; {problem}")
        return self.functions[name]

    def named_ports(self, function: Any) -> tuple[list[Port], list[Port]]:
        """Returns the inputs and the outputs of a function: names and types."""
        block = function.regions[0].blocks[0]
        names = (PORT_NAME.findall(str(function.attributes[which])) for which in ("arg_attrs", "res_attrs"))
        values = block.arguments, list(operations(function))[-1].operands
        kinds = [[tensor_type(value) for value in side] for side in values]
        try:
            inputs, outputs = (list(zip(*side, strict=True)) for side in zip(names, kinds, strict=True))
        except ValueError:
            raise InvalidInput(f"{self.path}: an input or output without a name") from None
        return inputs, outputs

    @cached_property
    def resources(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Bytes of large constants by name, mapped from the file."""
        return dict(read_resources(self.path / PROGRAM))

    def keep(self, constant: Any, numbers: npt.NDArray[Any]) -> None:
        """Stores the elements of a constant that was added to the module."""
        match = RESOURCE.match(str(constant.attributes["value"]))
        if match is not None:
            self.resources[match.group(1)] = numbers.reshape(-1).view(np.uint8)

    def numbers(self, constant: Any) -> npt.NDArray[Any]:
        """Returns the elements of a `coreai.constant`; integers of less than a byte as int8 or uint8."""
        kind, value = tensor_type(constant.results[0]), constant.attributes["value"]
        match = RESOURCE.match(str(value)) if not hasattr(value, "is_splat") else None
        message = f"{self.path}: the constant {str(value)[:60]} cannot be read"
        with reraising(message, KeyError, ValueError, TypeError, BufferError):
            if match is not None:
                return _decoded(self.resources[match.group(1)], kind)
            if kind.bits % 8 and kind.dtype != "bool":
                return _spelled(str(value), kind)
            # A single element for all is a buffer that repeats it by a stride of 0.
            return np.array(value).reshape(kind.shape)


def operations(graph: Any) -> Iterator[Any]:
    """Yields the operations of a `coreai.graph` in order."""
    yield from graph.regions[0].blocks[0].operations


def _metadata(path: Path) -> dict[str, Any]:
    with reraising(f"{path} is not an .aimodel: its {METADATA}", OSError, ValueError):
        metadata = read_json(path / METADATA)
    if not isinstance(metadata, dict) or "assetVersion" not in metadata:
        raise InvalidInput(f"{path} is not an .aimodel: its {METADATA} names no assetVersion")
    return metadata


def _check_program(path: Path) -> None:
    """Refuses a file that is not a program, or does not match the stored hash, before Apple's reader sees it.

    That reader ends the process on invalid input (coreai-core 1.0.0b3: 41% of single bit flips in the operations of a
    program with a recomputed hash). So another process tries it first.
    """
    digest = _digest(path)
    with reraising(f"{path} is not an .aimodel: its {HASH}", OSError):
        expected = (path / HASH).read_bytes()
    if digest != expected:
        raise InvalidInput(f"{path} is damaged: {PROGRAM} does not match {HASH}; export or copy it again")
    if digest in _READABLE:
        return
    read_resources(path / PROGRAM)
    command, environment = python("-c", TRY, str(path))
    outcome = subprocess.run(command, env=environment, capture_output=True, check=False)
    if outcome.returncode:
        raise InvalidInput(f"{path} is damaged: Apple's reader cannot read {PROGRAM}; export or copy it again")
    _READABLE.add(digest)


def is_readable(path: Path) -> None:
    """Records that this process wrote an asset: it need not be tried."""
    _READABLE.add(_digest(path))


def _digest(path: Path) -> bytes:
    with reraising(f"{path} is not an .aimodel: its {PROGRAM}", OSError), (path / PROGRAM).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _spelled(text: str, kind: TensorType) -> npt.NDArray[Any]:
    """Parses the few integers of less than a byte that are written among the operations, from their text, `dense<[1,
    -2]> : ...`: reading their buffer aborts the process (coreai-core 1.0.0b3)."""
    literal = text.rpartition(" : ")[0]  # the rest is the type, such as tensor<900x2xsi4>
    parsed = [int(number) for number in re.findall(r"-?\d+", literal)]
    if "0x" in literal or len(parsed) not in (1, math.prod(kind.shape)):
        raise Malformed("a wrong number of elements")
    numbers = np.array(parsed, np.int8 if kind.dtype.startswith("int") else np.uint8)
    return np.broadcast_to(numbers, math.prod(kind.shape)).reshape(kind.shape)


def _decoded(content: npt.NDArray[np.uint8], kind: TensorType) -> npt.NDArray[Any]:
    """Decodes bytes as elements: little-endian; those of less than a byte are packed from the lowest bit on."""
    if kind.dtype == "bool":
        return np.unpackbits(content, bitorder="little")[: math.prod(kind.shape)].astype(bool).reshape(kind.shape)
    if WHOLE_BYTES.fullmatch(kind.dtype):
        return content.view(np.dtype(kind.dtype).newbyteorder("<")).reshape(kind.shape)
    count, bits = math.prod(kind.shape), kind.bits
    if len(content) != -(-count * bits // 8):
        raise Malformed(f"{len(content)} bytes instead of {count} elements of {bits} bits")
    spread = np.unpackbits(content, bitorder="little", count=count * bits).reshape(count, bits)
    numbers = np.zeros(count, np.uint8)
    for bit in range(bits):
        numbers |= spread[:, bit] << bit
    if kind.dtype.startswith("int"):
        return ((numbers.astype(np.int8) ^ (1 << (bits - 1))) - (1 << (bits - 1))).astype(np.int8).reshape(kind.shape)
    return numbers.reshape(kind.shape)
