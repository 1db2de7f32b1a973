"""An axis that was changed in a file, where no conversion is compared: its answers tell, or nothing is changed by it.

`graph` compares epsilons, bounds and factors with what the checkpoint's tower says, since an answer may not show them.
It compares no axes: another axis moves every answer, and at every precision one check that needs no conversion holds
answers to torch with the same numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conversions import Store
from faults.onnx_planting import PlantedOnnx
from tiny import WORDS, known
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks import TowerCheck, check_shipped, check_structure
from mobileclip_deploy.verify.graph import check_graph
from mobileclip_deploy.verify.subject import OpenedSubject
from mobileclip_deploy.verify.weights import check_weights

AXIS, AXES = ("axis",), ("perm", "axes")
# Operators that take axes as an input, and which one.
TAKEN = {"ReduceMean": 1, "ReduceMax": 1, "ReduceSum": 1, "Squeeze": 1, "Unsqueeze": 1}
RANK = 5
# All that need neither a converter nor the versions that wrote a bundle, but for those of claims and companions.
CHECKS: tuple[TowerCheck, ...] = (check_structure, check_shipped, check_weights, check_graph)


@dataclass(frozen=True)
class Edit:
    """Another axis of operation number `node`; `name`: of the attribute, or of the constant that it takes."""

    node: int
    name: str
    value: int | tuple[int, ...]

    def plant(self, file: PlantedOnnx) -> None:
        node = file.graph.node[self.node]
        if any(one.name == self.name for one in node.attribute):
            file.set(node, self.name, list(self.value) if isinstance(self.value, tuple) else self.value)
            return
        place = TAKEN[node.op_type]
        node.input[place] = file.add("planted_axes", np.asarray(self.value, np.int64).reshape(-1))


@dataclass(frozen=True)
class Sound:
    """A bundle of one tower that passes."""

    own: OpenedSubject
    tower: TowerName

    @property
    def file(self) -> PlantedOnnx:
        return PlantedOnnx(self.own.bundle.artifact(self.tower).read_bytes())

    def judged(self, edit: Edit | None, folder: Path) -> str:
        """What becomes of an edit: the check that failed, "refused", or "equal" to the bit."""
        file, planted = self.file, replace(self.own, bundle=Bundle(folder, self.own.bundle.manifest))
        if edit is not None:
            edit.plant(file)
        file.save(planted.bundle.artifact(self.tower))
        try:
            for check in CHECKS:
                if any(one.status == "failed" for one in check(planted, self.tower)):
                    return check.__name__
            return "equal" if np.array_equal(self.asked(planted), self.asked(self.own)) else "other answers that pass"
        except (InvalidInput, RuntimeFailed):
            return "refused"

    def asked(self, own: OpenedSubject) -> np.ndarray:
        """Answers to two inputs, one by one and together."""
        inputs = own.evidence.reference.inputs.of(self.tower)[:2]
        runner = own.artifact(self.tower).runner()
        return np.concatenate([runner(inputs[:1]), runner(inputs[1:]), runner(inputs)])


@pytest.fixture(scope="module")
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store: Store) -> Iterator[Sound]:
    tower, precision = request.param
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("axes")
    with known(folder) as checkpoint, store.conversions():
        model = mcd.load_model(WORDS, checkpoint)
        bundle = mcd.export(model, "onnx", precision, folder / "out", tower=tower, verify=False)
        yield Sound(
            subject(bundle, model, Reference.compute(model, Reference.read(bundle.golden).inputs), folder), tower
        )


def edits(file: PlantedOnnx) -> Iterator[Edit]:
    """Every axis, moved to each other place; of an order of axes, each two neighbours exchanged."""
    for number, node in enumerate(file.graph.node):
        for attribute in node.attribute:
            value = onnx.helper.get_attribute_value(attribute)
            if attribute.name in AXIS:
                yield from (Edit(number, attribute.name, other) for other in range(RANK) if other != value)
            elif attribute.name in AXES:
                yield from (Edit(number, attribute.name, other) for other in others(tuple(value)))
        place = TAKEN.get(node.op_type)
        if place is not None and len(node.input) > place and file.has(node.input[place]):
            given = tuple(int(one) for one in file.array(node.input[place]).reshape(-1))
            yield from (Edit(number, "axes", other) for other in others(given))


def others(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if len(axes) > 2:  # an order of all axes
        for place in range(len(axes) - 1):
            yield (*axes[:place], axes[place + 1], axes[place], *axes[place + 2 :])
    else:
        for place in range(len(axes)):
            yield from (
                (*axes[:place], other, *axes[place + 1 :]) for other in range(RANK) if other not in (*axes, axes[place])
            )


@pytest.mark.whole  # faults/test_kinds.py
@pytest.mark.once
@pytest.mark.parametrize("each", [False, True], ids=["one operation of a kind", "each operation"])
@pytest.mark.parametrize(
    "sound", [("text", "w8"), ("image", "w8"), ("image", "fp32"), ("text", "fp32")], indirect=True, ids="-".join
)
def test_another_axis_is_told_by_answers_or_changes_nothing(sound: Sound, each: bool, tmp_path: Path) -> None:
    assert sound.judged(None, tmp_path / "sound") == "equal"
    found, seen = defaultdict[str, list[str]](list), set[tuple[str, str, object]]()
    for number, edit in enumerate(edits(sound.file)):
        node = sound.file.graph.node[edit.node]
        key = (node.op_type, edit.name, edit.value)
        if each or key not in seen:
            seen.add(key)
            found[sound.judged(edit, tmp_path / str(number))].append(f"{node.op_type} {node.name} {edit}")
    assert {"refused", "check_shipped", "equal"} <= {*found} <= {"refused", *(one.__name__ for one in CHECKS), "equal"}
    # The last axis said by its number, and parts put together along the axis beside one of length 1.
    assert {name.split()[0] for name in found["equal"]} <= {"Softmax", "LayerNormalization", "Concat"}
