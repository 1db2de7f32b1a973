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

from mobileclip_deploy.model.variants import TowerName

# ExecuTorch has no image tower at w8.
CASES: list[tuple[str, TowerName, str]] = [
    ("onnx", "text", "w8"),
    ("onnx", "image", "w8"),
    ("onnx", "image", "fp32"),
    ("onnx", "text", "fp32"),
    ("coreml", "text", "w8"),
    ("coreml", "image", "w8"),
    ("litert", "text", "w8"),
    ("litert", "image", "w8"),
    ("executorch", "text", "w8"),
    ("executorch", "image", "fp32"),
]
# What computes the same to the bit: the last axis said by its number, an axis of length 1 beside another one, and parts
# that are put together along such an axis.
SAME = {
    "onnx": {"Softmax", "LayerNormalization", "Concat"},
    "coreml": {"softmax", "layer_norm", "split", "expand_dims", "squeeze"},
    "litert": {"TRANSPOSE"},
    "executorch": {"XNNStaticTranspose", "aten::unsqueeze_copy", "aten::squeeze_copy"},
}


@pytest.fixture(scope="module")
def sound(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store: Store
) -> Iterator[Unconverted]:
    require(request.param[0])
    with unconverted(*request.param, tmp_path_factory.mktemp("axes"), store) as found:
        yield found


@pytest.mark.whole  # faults/test_kinds.py
@pytest.mark.once
@pytest.mark.parametrize(
    ("sound", "each"),
    [
        pytest.param(case, each, id=f"{'-'.join(case)}-{'each' if each else 'one of a kind'}")
        for case, each in (
            *((case, False) for case in CASES),
            *((case, True) for case in CASES if case[0] == "onnx"),
        )
    ],
    indirect=["sound"],
)
def test_another_axis_is_told_by_answers_or_changes_nothing(sound: Unconverted, each: bool, tmp_path: Path) -> None:
    target = sound.own.bundle.manifest.target
    file = AXES[target](sound.path)
    every = [*file.axes()]
    assert sound.judged(file.save, tmp_path / "sound") == "equal"
    found, seen = defaultdict[str, list[str]](list), set[tuple[object, ...]]()
    for number, axis in enumerate(every):
        for new in others(axis.value):
            key = (axis.kind, axis.name, axis.value, new)
            if not each and key in seen:
                continue
            seen.add(key)
            file = AXES[target](sound.path)
            [*file.axes()][number].move(new)
            said = sound.judged(file.save, tmp_path / f"{len(seen)}-{number}")
            found[said].append(f"{axis.kind} {axis.name} {axis.value} to {new}")
    assert "shipped" in found
    assert {*found} <= {"refused", "equal", *(check.__name__.removeprefix("check_") for check in CHECKS)}, found
    assert {name.split()[0] for name in found["equal"]} <= SAME[target]
