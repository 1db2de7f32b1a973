"""The axes that operations of a file name, in formats whose files can be edited so, and the file with other ones."""

from __future__ import annotations

import pickle
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
KERNELS = {"aten::unsqueeze_copy": 1, "aten::squeeze_copy": 1, "aten::cat": 1, "aten::argmax": 1, "aten::mean": 1}
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


class LiteRTAxes:
    """Options of operators, and the constants that they take as axes."""

    def __init__(self, path: Path) -> None:
        from mobileclip_deploy.targets.litert.editing import Editor

        self.file = Editor(path.read_bytes())

    def axes(self) -> Iterator[Axis]:
        graph, model = self.file.graph, self.file.model
        codes = {value: name for name, value in vars(self.file.schema.BuiltinOperator).items() if name.isupper()}
        for operator in list(graph.operators):
            kind = codes[model.operatorCodes[operator.opcodeIndex].builtinCode]
            if hasattr(operator.builtinOptions, "axis"):
                options = operator.builtinOptions
                yield Axis(kind, "axis", (options.axis,), lambda new, o=options: setattr(o, "axis", new[0]))  # type: ignore[misc]
            if kind in ("TRANSPOSE", "MEAN", "SUM", "REDUCE_MAX"):
                held = model.buffers[graph.tensors[operator.inputs[1]].buffer].data
                value = tuple(int(one) for one in np.frombuffer(bytes(held), "<i4"))
                yield Axis(kind, "input 1", value, lambda new, one=operator: self._take(one, new))  # type: ignore[misc]

    def _take(self, operator: Any, new: Sequence[int]) -> None:
        held = self.file.constant(b"planted_axes", np.asarray(new, np.int32))
        operator.inputs = [operator.inputs[0], held]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.file.packed())


class ExecuTorchAxes:
    """Settings of XNNPACK's operations, and arguments of kernels."""

    def __init__(self, path: Path) -> None:
        from faults.executorch_edits import taken_apart

        self.file = pickle.loads(taken_apart(path))

    def axes(self) -> Iterator[Axis]:
        for part in self.file.parts:
            for node in part["xnodes"]:
                kind, fields = node["operation"]
                if "perm" in fields:
                    yield Axis(kind, "perm", fields["perm"], lambda new, f=fields: f.update(perm=tuple(new)))  # type: ignore[misc]
                if "axis" in fields:
                    yield Axis(kind, "axis", (fields["axis"],), lambda new, f=fields: f.update(axis=new[0]))  # type: ignore[misc]
        values = self.file.plan["values"]
        for name, place in KERNELS.items():
            for call in self.file.kernels(name):
                kind, fields = values[call["args"][place]]["value"]
                items = [call["args"][place]] if kind == "Int" else fields["items"]
                value = tuple(values[one]["value"][1]["value"] for one in items)
                yield Axis(
                    name,
                    f"argument {place}",
                    value,
                    lambda new, call=call, at=place, kind=kind: self._pass(call, at, kind, new),  # type: ignore[misc]
                )

    def _pass(self, call: dict[str, Any], place: int, kind: str, new: Sequence[int]) -> None:
        """Values of the call's own, since others may take the ones that it has."""
        places = [self._value("Int", {"value": number}) for number in new]
        if kind != "Int":
            places = [self._value(kind, {"items": tuple(places)})]
        call["args"] = (*call["args"][:place], places[0], *call["args"][place + 1 :])

    def _value(self, kind: str, fields: dict[str, Any]) -> int:
        values = self.file.plan["values"]
        self.file.plan["values"] = (*values, {"value": (kind, fields)})
        return len(values)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
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


AXES: dict[str, Callable[[Path], Any]] = {
    "onnx": OnnxAxes,
    "coreml": CoreMLAxes,
    "coreai": CoreAIAxes,
    "litert": LiteRTAxes,
    "executorch": ExecuTorchAxes,
}
