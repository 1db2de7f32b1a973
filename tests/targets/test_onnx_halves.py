"""Float16 files: the float32 graph, cast, is the graph that a tower in float16 gives."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import network
from torch import Tensor, nn
from writing import job_of

from mobileclip_deploy.artifacts.towers.head import Head
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import first_difference
from mobileclip_deploy.targets.onnx import graph
from mobileclip_deploy.targets.values import Shared

pytestmark = pytest.mark.whole  # the bundles of test_nano.py share, and `verify` compares the graph of fp16


class HalfTower(nn.Module):
    """A tower in float16 with float32 pixels or integer ids in and float32 embeddings out."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = copy.deepcopy(tower).half()

    def forward(self, x: Tensor) -> Tensor:
        return self.tower(x.half() if x.is_floating_point() else x).float()


@pytest.mark.parametrize(("variant", "tower"), [("tiny_mci", "image"), ("tiny_later", "text")])
def test_it_is_the_graph_of_a_tower_in_float16(
    variant: str, tower: TowerName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file called fp32 has a weight for each half of a doubling convolution, where others slice one.
    sliced = graph.split_doubling
    monkeypatch.setattr(graph, "split_doubling", lambda traced_model, **_: sliced(traced_model))
    model, onnx = network(0, variant), get_target("onnx")
    half = job_of(model, tower, "fp16", head=Head(normalised=True))
    traced = replace(half, module=HalfTower(half.module).eval(), precision="fp32")
    for name, job in {"cast": half, "traced": traced}.items():
        onnx.write(job, tmp_path / f"{name}.onnx")
    assert first_difference(onnx.open(tmp_path / "cast.onnx").graph, onnx.open(tmp_path / "traced.onnx").graph) is None


def test_what_jobs_share_is_not_changed_by_any(tmp_path: Path) -> None:
    model, onnx, shared = network(), get_target("onnx"), Shared()
    for precision in ("fp16", "w8", "fp32"):
        onnx.write(job_of(model, "text", precision, shared=shared), tmp_path / "shared.onnx")
    onnx.write(job_of(model, "text", "fp32"), tmp_path / "alone.onnx")
    assert (tmp_path / "shared.onnx").read_bytes() == (tmp_path / "alone.onnx").read_bytes()
