"""An axis that was changed in a file, where no conversion is compared: its answers tell, or nothing is changed by it.

`graph` compares epsilons, bounds and factors with what the checkpoint's tower says, since an answer may not show them.
It compares no axes: another axis moves every answer, and at every precision one check that needs no conversion holds
answers to torch with the same numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conversions import Store
from faults.onnx_planting import PlantedOnnx
from faults.unconverted import CHECKS, Unconverted, unconverted

from mobileclip_deploy.model.variants import TOWERS, TowerName

CASES: list[tuple[str, TowerName, str]] = [
    *(("onnx", tower, precision) for tower in TOWERS for precision in ("w8", "fp32")),
    *(("coreai", tower, "fp32") for tower in TOWERS),
]
# What computes the same to the bit: the last axis said by its number, and parts put together along an axis of length 1.
SAME = {"Softmax", "LayerNormalization", "Concat"}
# Axes that are tried: of a value of one dimension more than any has.
RANK = 5
# Which input of an operator has its axes.
TAKEN = {"ReduceMean": 1, "ReduceMax": 1, "ReduceSum": 1, "Squeeze": 1, "Unsqueeze": 1}


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
            place = TAKEN.get(node.op_type)
            if place is not None and len(node.input) > place and self.file.has(node.input[place]):
                value = tuple(int(one) for one in self.file.array(node.input[place]).reshape(-1))
                yield Axis(node.op_type, "axes", value, lambda new, node=node, at=place: self._take(node, at, new))  # type: ignore[misc]

    def _take(self, node: Any, place: int, new: Sequence[int]) -> None:
        node.input[place] = self.file.add("planted_axes", np.asarray(new, np.int64))

    def save(self, path: Path) -> None:
        self.file.save(path)


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


FILES: dict[str, Callable[[Path], Any]] = {"onnx": OnnxAxes, "coreai": CoreAIAxes}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def sound(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store: Store
) -> Iterator[Unconverted]:
    target, tower, precision = request.param
    with unconverted(target, tower, precision, tmp_path_factory.mktemp("axes"), store) as found:
        yield found


@pytest.mark.whole  # faults/test_kinds.py
def test_another_axis_is_told_by_answers_or_changes_nothing(sound: Unconverted, tmp_path: Path) -> None:
    file = FILES[sound.target](sound.path)
    every = [*file.axes()]
    assert sound.judged(file.save, tmp_path / "sound") == "equal"
    found, seen = defaultdict[str, list[str]](list), set[tuple[object, ...]]()
    for number, axis in enumerate(every):
        for new in others(axis.value):
            key = (axis.kind, axis.name, axis.value, new)
            if key in seen:
                continue
            seen.add(key)
            file = FILES[sound.target](sound.path)
            [*file.axes()][number].move(new)
            said = sound.judged(file.save, tmp_path / f"{len(seen)}-{number}")
            found[said].append(f"{axis.kind} {axis.name} {axis.value} to {new}")
    assert "shipped" in found
    assert {*found} <= {"refused", "equal", *(check.__name__.removeprefix("check_") for check in CHECKS)}, found
    assert {name.split()[0] for name in found["equal"]} <= SAME
