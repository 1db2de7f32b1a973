"""An axis that was changed in a file, where no conversion is compared: its answers tell, or nothing is changed by it.

`graph` compares epsilons, bounds and factors with what the checkpoint's tower says, since an answer may not show them.
It compares no axes: another axis moves every answer, and at every precision one check that needs no conversion holds
answers to torch with the same numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from conversions import Store
from faults.axes import AXES, others
from faults.files import require
from faults.unconverted import CHECKS, Unconverted, unconverted

from mobileclip_deploy.network.model.variants import TowerName

CASES: list[tuple[str, TowerName, str]] = [
    ("onnx", "text", "w8"),
    ("onnx", "image", "fp32"),
    ("coreml", "image", "w8"),
    ("coreai", "text", "fp32"),
]
# What computes the same to the bit: the last axis said by its number, an axis of length 1 beside another one, and parts
# that are put together along such an axis.
SAME: dict[str, set[str]] = {
    "onnx": {"Softmax", "LayerNormalization", "Concat"},
    "coreai": set(),
    "coreml": {"softmax", "layer_norm", "split", "expand_dims", "squeeze"},
}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def sound(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store: Store
) -> Iterator[Unconverted]:
    target, tower, precision = request.param
    require(target)
    with unconverted(target, tower, precision, tmp_path_factory.mktemp("axes"), store) as found:
        yield found


@pytest.mark.whole  # faults/test_kinds.py
def test_another_axis_is_told_by_answers_or_changes_nothing(sound: Unconverted, tmp_path: Path) -> None:
    file = AXES[sound.target](sound.path)
    every = [*file.axes()]
    assert sound.judged(file.save, tmp_path / "sound") == "equal"
    found, seen = defaultdict[str, list[str]](list), set[tuple[object, ...]]()
    for number, axis in enumerate(every):
        for new in others(axis.value):
            key = (axis.kind, axis.name, axis.value, new)
            if key in seen:
                continue
            seen.add(key)
            file = AXES[sound.target](sound.path)
            [*file.axes()][number].move(new)
            said = sound.judged(file.save, tmp_path / f"{len(seen)}-{number}")
            found[said].append(f"{axis.kind} {axis.name} {axis.value} to {new}")
    assert "shipped" in found
    assert {*found} <= {"refused", "equal", *(check.__name__.removeprefix("check_") for check in CHECKS)}, found
    assert {name.split()[0] for name in found["equal"]} <= SAME[sound.target]
