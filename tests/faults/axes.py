"""The axes that operations of a file name, in formats whose files can be edited so, and the file with other ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from faults.onnx_planting import PlantedOnnx

# Axes that are tried: of a value of one dimension more than any has.
RANK = 5
# Which input, argument or operand of an operation has its axes.
ONNX_TAKEN = {"ReduceMean": 1, "ReduceMax": 1, "ReduceSum": 1, "Squeeze": 1, "Unsqueeze": 1}


@dataclass(frozen=True)
class Axis:
    """Axes that one operation names: `kind` is its type, `name` the setting or the input that has them."""

    kind: str
    name: str
    value: tuple[int, ...]
    move: Callable[[Sequence[int]], object]


def others(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Other axes in their place: of an order of all axes, each two neighbours exchanged; else each moved to each other
    place."""
    if len(axes) > 2 or sorted(axes) == [0, 1]:
        for place in range(len(axes) - 1):
            yield (*axes[:place], axes[place + 1], axes[place], *axes[place + 2 :])
    else:
        for place in range(len(axes)):
            yield from (
                (*axes[:place], other, *axes[place + 1 :]) for other in range(RANK) if other not in (*axes, axes[place])
            )


class OnnxAxes:
    """Attributes, and the constants that operators take as axes."""

    def __init__(self, path: Path) -> None:
        self.file = PlantedOnnx(path.read_bytes())

    def axes(self) -> Iterator[Axis]:
        for node in self.file.graph.node:
            for attribute in node.attribute:
                if attribute.name in ("axis", "perm", "axes"):
                    value = onnx.helper.get_attribute_value(attribute)
                    several = not isinstance(value, int)
                    yield Axis(
                        node.op_type,
                        attribute.name,
                        tuple(value) if several else (value,),
                        lambda new, node=node, name=attribute.name, several=several: self.file.set(  # type: ignore[misc]
                            node, name, list(new) if several else new[0]
                        ),
                    )
            place = ONNX_TAKEN.get(node.op_type)
            if place is not None and len(node.input) > place and self.file.has(node.input[place]):
                value = tuple(int(one) for one in self.file.array(node.input[place]).reshape(-1))
                yield Axis(node.op_type, "axes", value, lambda new, node=node, at=place: self._take(node, at, new))  # type: ignore[misc]

    def _take(self, node: Any, place: int, new: Sequence[int]) -> None:
        node.input[place] = self.file.add("planted_axes", np.asarray(new, np.int64))

    def save(self, path: Path) -> None:
        self.file.save(path)


class CoreMLAxes:
    """Parameters of operations, which are constants of the program."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def axes(self) -> Iterator[Axis]:
        from faults.planting import Planted

        self.file = Planted(self.path)
        for operation in self.file.block.operations:
            for name in ("axis", "axes", "perm"):
                if name in operation.inputs:
                    held = self.file.producer(self.file.source(operation, name)).attributes["val"]
                    value = tuple(int(one) for one in held.immediateValue.tensor.ints.values)
                    yield Axis(
                        operation.type,
                        name,
                        value,
                        lambda new, one=operation, name=name: self.file.set(one, name, list(new)),  # type: ignore[misc]
                    )

    def save(self, path: Path) -> None:
        shutil.copytree(self.path, path)
        self.file.folder = path / self.file.folder.relative_to(self.path)
        self.file.save()


class CoreAIAxes:
    """The constants that operations take as axes, those of called functions too."""

    def __init__(self, path: Path) -> None:
        from mobileclip_deploy.targets.coreai.asset import Asset

        self.asset = Asset(path)

    def axes(self) -> Iterator[Axis]:
        from faults.coreai_edits import changed, found

        from mobileclip_deploy.targets.coreai.asset import AXES

        for name, (place, _) in AXES.items():
            for operation in found(self.asset, f"coreai.{name}"):
                held = self.asset.numbers(operation.operands[place].owner)

                def move(new: Sequence[int], one: Any = operation, at: int = place) -> None:
                    changed(self.asset, one, at, lambda old: np.asarray(new, old.dtype).reshape(old.shape))

                yield Axis(name, f"operand {place}", tuple(int(one) for one in held.reshape(-1)), move)

    def save(self, path: Path) -> None:
        from faults.coreai_edits import save

        save(self.asset, path)


AXES: dict[str, Callable[[Path], Any]] = {
    "onnx": OnnxAxes,
    "coreml": CoreMLAxes,
    "coreai": CoreAIAxes,
}
