"""Every target keeps what `Target` promises: ours, and the example's that is installed as anybody's is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from coreai_assets import require_coreai
from litert_files import require_litert
from qnn_files import require_qnn
from third_party import installed
from writing import chosen

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.testing import check_target

NEEDS = {"coreai": require_coreai, "litert": require_litert, "qnn": require_qnn}
FEWER = {"qnn": {"chip": "v75"}}
"""Options that leave out what is the same again: each chip is compiled for and emulated."""
CASES: list[tuple[str, TowerName, str]] = [
    ("onnx", "text", "w8"),
    ("coreml", "image", "w8"),
    ("executorch", "text", "fp32"),
    ("coreai", "text", "w4p"),
    ("litert", "text", "fp32"),
    ("qnn", "text", "fp16"),
    ("torchscript", "image", "fp32"),
]


@pytest.fixture(scope="module", autouse=True)
def with_example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site-packages")):
        yield


# That the example is exported and verified, test_third_party.py shows.
@pytest.mark.parametrize(
    ("name", "tower", "precision"), [*CASES[:-1], pytest.param(*CASES[-1], marks=pytest.mark.whole)]
)
def test_a_target_keeps_its_promises(name: str, tower: TowerName, precision: str) -> None:
    NEEDS.get(name, lambda: None)()
    print(*check_target(chosen(name, **FEWER.get(name, {})), [precision], [tower]), sep="\n")


REFUSED = {"executorch": "w4"}
"""Precisions at which an export of random weights is refused, as it should be: a quantized stage is too far away."""


@pytest.mark.whole
@pytest.mark.parametrize("name", [name for name, *_ in CASES])
def test_a_target_keeps_its_promises_at_every_precision(name: str) -> None:
    NEEDS.get(name, lambda: None)()
    target = chosen(name, **FEWER.get(name, {}))
    wanted = [one for one in target.abilities.precisions if one != REFUSED.get(name)]
    print(*check_target(target, wanted), sep="\n")
