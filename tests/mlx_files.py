"""MLX functions of a small network, for tests, and files of functions that were changed after they were read."""

import platform
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from packages import require_package
from tiny import network
from writing import chosen, job_of

from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.mlx.function_file import (
    DEVICES,
    DTYPES,
    FORMS,
    STATES,
    Declared,
    MlxFunction,
    MlxOperation,
    Value,
)
from mobileclip_deploy.targets.values import Shared

__all__ = ["network", "numbers", "packed", "require_mlx", "setting", "step", "write"]

NEEDS = "needs mlx (Linux, or a Mac with Apple silicon): pip install 'mobileclip-deploy[mlx]'"


def require_mlx() -> None:
    mac = (sys.platform, platform.machine()) == ("darwin", "arm64")
    require_package("mlx", NEEDS, sys.platform == "linux" or mac)


def write(model: MobileCLIP, tower: TowerName, folder: Path, *precisions: str, **options: Any) -> dict[str, Path]:
    """A tower in each of these precisions, traced once."""
    shared, found = Shared(), {}
    for precision in precisions:
        found[precision] = folder / f"tiny_{tower}_{precision}.mlxfn"
        chosen("mlx", **options).write(job_of(model, tower, precision, shared=shared), found[precision])
    return found


def step(function: MlxFunction, name: str, number: int = 0) -> int:
    """Where an operation of a kind stands among the steps."""
    found = [place for place, one in enumerate(function.steps) if isinstance(one, MlxOperation) and one.name == name]
    return found[number]


def changed(function: MlxFunction, place: int, other: MlxOperation | Value) -> MlxFunction:
    steps = list(function.steps)
    steps[place] = other
    return replace(function, steps=tuple(steps))


def setting(name: str, place: int, value: Any, number: int = 0) -> Callable[[MlxFunction], MlxFunction]:
    def edit(function: MlxFunction) -> MlxFunction:
        at = step(function, name, number)
        operation = function.steps[at]
        settings = [*operation.settings]
        settings[place] = value
        return changed(function, at, replace(operation, settings=tuple(settings)))

    return edit


def numbers(
    name: str, place: int, change: Callable[[npt.NDArray[Any]], Any], number: int = 0
) -> Callable[[MlxFunction], MlxFunction]:
    """Other numbers in the constant that an operation takes, behind a change of its type where there is one."""

    def edit(function: MlxFunction) -> MlxFunction:
        taken, ahead = step(function, name, number), len(function.inputs)
        while isinstance(operation := function.steps[taken], MlxOperation):
            taken = operation.inputs[place if operation.name == name else 0] - ahead
        values = operation.numbers.copy()
        change(values)
        return changed(function, taken, Value(values))

    return edit


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray()

    def size(self, value: int) -> None:
        self.data += struct.pack("<Q", value)

    def sizes(self, values: Sequence[int]) -> None:
        self.size(len(values))
        self.data += struct.pack(f"<{len(values)}Q", *values)

    def text(self, value: str) -> None:
        self.size(len(value.encode()))
        self.data += value.encode()

    def integers(self, values: Sequence[int]) -> None:
        self.size(len(values))
        self.data += struct.pack(f"<{len(values)}i", *values)

    def dtype(self, name: str) -> None:
        self.data += struct.pack("<iB", DTYPES.index(name), np.dtype(name).itemsize)

    def declared(self, value: Declared) -> None:
        self.integers(value.shape)
        self.dtype(value.dtype)

    def setting(self, kind: str, value: Any) -> None:
        if kind == "I":
            self.integers(value)
        elif kind == "t":
            self.dtype(value)
        else:
            self.data += struct.pack(FORMS[kind], value)


def packed(function: MlxFunction) -> bytes:
    """The file of a function. Of one that was read and not changed it has the same bytes."""
    out = _Writer()
    out.text(function.version)
    out.data += struct.pack("<iB", 1, 0)  # functions; of any shape
    if function.metadata is not None:
        out.text(function.metadata)
    out.size(0)  # names of inputs
    ahead = len(function.inputs)
    out.sizes(range(ahead))
    out.size(ahead)
    for declared in function.inputs:
        out.declared(declared)
    out.sizes(function.results)
    out.size(ahead + len(function.steps))
    for number in range(ahead):
        out.size(number)
        out.data += b"\0\0"
    device = DEVICES.index(function.device)
    for number, one in enumerate(function.steps, start=ahead):
        out.size(number)
        if isinstance(one, Value):
            out.data += b"\0\1"
            out.declared(Declared(one.numbers.dtype.name, one.numbers.shape))
            out.data += one.numbers.tobytes()
            continue
        out.data += b"\1"
        out.sizes(one.inputs)
        out.data += struct.pack("<iii", device, device, 0)
        out.text(one.name)
        for kind, value in zip(STATES.get(one.name, ""), one.settings, strict=True):
            out.setting(kind, value)
        out.size(0)  # other results
        out.declared(one.result)
    return bytes(out.data)
