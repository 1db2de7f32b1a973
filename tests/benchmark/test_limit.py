"""How much a tower computes, what these cores can, and the share of it that a cell reaches."""

from __future__ import annotations

import sys
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from benchmark import documents
from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.arithmetic import tower_arithmetic
from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.host import driver
from mobileclip_deploy.benchmark.host import peak as probe
from mobileclip_deploy.benchmark.limit import arithmetic_of, describe_peak, reached
from mobileclip_deploy.benchmark.report.table import columns, conditions, rows
from mobileclip_deploy.benchmark.result import Peak, Result
from mobileclip_deploy.network.folding import fold_structure
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.network.model.architecture.attention import FeatureMapAttention, SelfAttention
from mobileclip_deploy.network.model.variants import load_variant


def by_layers(variant: str, tower: str) -> int:
    """Counted another way: from the shapes that go into every layer and come out of it."""
    card, total = load_variant(variant), 0
    model = fold_structure(build_model(card, "meta", (tower,))).to("meta")

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += 2 * output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total += 2 * output.numel() * layer.in_features
        elif isinstance(layer, FeatureMapAttention | SelfAttention):
            batch, width = inputs[0].shape[0], layer.proj.in_features
            tokens = inputs[0].numel() // batch // width
            total += 2 * 2 * batch * tokens * tokens * width  # queries by keys, and weights by values, of all heads

    for layer in model.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        if tower == "image":
            model.encode_image(torch.empty(1, *card.image_input_shape, device="meta"))
        else:
            model.encode_text(torch.empty(1, card.tokenizer.context_length, dtype=torch.int64, device="meta"))
    return total


@pytest.mark.parametrize("variant", ["nano", "mobileclip_s0", "mobileclip_b"])
@pytest.mark.parametrize("tower", ["image", "text"])
def test_arithmetic_is_that_of_every_layer(variant: str, tower: Any) -> None:
    card = load_variant(variant)
    length = card.preprocess.size if tower == "image" else card.tokenizer.context_length
    assert tower_arithmetic(variant, tower, length) == by_layers(variant, tower)


def test_s0_s_image_tower_is_4_77_billion_and_short_prompts_are_less() -> None:
    assert tower_arithmetic("mobileclip_s0", "image", 256) == 4_770_299_904
    width, depth, dimensions = 512, 12, 512
    # A token: stacked qkv, projection, and two layers of four times the width; attention by the square of the length.
    tokens = lambda length: depth * (24 * length * width**2 + 4 * length**2 * width) + 2 * width * dimensions  # noqa: E731
    assert tower_arithmetic("mobileclip_b", "text", 77) == tokens(77)
    assert tower_arithmetic("mobileclip_b", "text", 16) == tokens(16)


def test_of_a_file_that_nobody_knows_there_is_none() -> None:
    cell = documents.job().cells[0]
    assert arithmetic_of(cell.model_copy(update={"variant": None})) is None
    assert arithmetic_of(cell.model_copy(update={"variant": "somebody_s"})) is None


PEAK = Peak(
    engine="x 1",
    threads=1,
    float32_operations_per_second=100e9,
    int8_operations_per_second=400e9,
    copied_bytes_per_second=25e9,
)


def limited() -> Result:
    """A result of nano's image tower, with the limit of its cores."""
    whole = documents.result().model_dump(mode="json")
    for cell in whole["job"]["cells"]:
        cell["input"]["shape"] = [1, 3, 64, 64]
    return complete(Result.model_validate(whole | {"peaks": [PEAK.model_dump()]}))


def test_a_share_is_arithmetic_by_cpu_time_by_the_limit() -> None:
    result = limited()
    cell, found = result.pairs()[0]
    assert found.arithmetic_operations == tower_arithmetic("nano", "image", cell.input.shape[-1])
    found = found.model_copy(update={"arithmetic_operations": 10**9})
    spent = (found.summary.cpu_ns or found.summary.median_ns) / 1e9
    near = reached(cell, found, result.peaks)
    assert near.per_second == pytest.approx(1e9 / spent)
    assert near.float32_percent == pytest.approx(1 / spent)
    assert near.int8_percent is None
    narrow = reached(cell.model_copy(update={"precision": "w8a8"}), found, result.peaks)
    assert narrow.int8_percent == pytest.approx(0.25 / spent)
    assert reached(cell.model_copy(update={"threads": 2}), found, result.peaks) is None
    assert reached(cell, found.model_copy(update={"arithmetic_operations": None}), result.peaks) is None


@pytest.mark.parametrize(
    "changes", [{"compute_units": "cpuAndNeuralEngine"}, {"compute_units": "all"}, {"backend": "gpu"}]
)
def test_what_computes_beside_the_cores_is_not_held_against_them(changes: dict[str, str]) -> None:
    result = limited()
    cell, found = result.pairs()[0]
    assert reached(cell.model_copy(update={"compute_units": "cpuOnly"}), found, result.peaks) is not None
    assert reached(cell.model_copy(update=changes), found, result.peaks) is None


def test_a_report_has_the_columns_where_a_limit_was_measured() -> None:
    plain = documents.result()
    assert not [name for name in columns(plain) if "limit" in name]
    assert complete(plain).cells[0].arithmetic_operations is None
    whole = limited()
    names = columns(whole)
    at = names.index("GOP/s")
    assert names[at : at + 3] == ("GOP/s", "of float32's limit, %", "of int8's limit, %")
    assert all(len(row) == len(names) for row in rows(whole))
    found = whole.cells[0]
    spent = found.summary.cpu_ns or found.summary.median_ns
    assert rows(whole)[0][at].value == pytest.approx(found.arithmetic_operations / spent)
    told = dict(conditions(whole))["limit"]
    assert told == describe_peak(PEAK)
    assert told.startswith("1 thread: 100 GOP/s in float32, 400 in int8 (a product of 1024 x 1024 matrices in x 1)")
    assert "256 x 256 matrices" in describe_peak(PEAK.model_copy(update={"side": 256}))


def test_the_probe_measures_products_and_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SIDE", 64)
    monkeypatch.setattr(probe, "COPIED", 1 << 20)
    found = probe.measure_peak(1)
    assert found.engine.startswith("onnxruntime ")
    assert found.threads == 1
    assert found.float32_operations_per_second > 0
    assert found.int8_operations_per_second > 0
    assert found.copied_bytes_per_second > 0


@pytest.mark.parametrize("kind", ["MatMul", "MatMulInteger"])
def test_the_products_are_those_of_the_matrices(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SIDE", 8)
    left, right = np.random.default_rng(0).random((2, 8, 8), np.float32)
    if kind == "MatMulInteger":
        left, right = np.floor(left * 255), np.trunc(right * 255 - 128)
    (found,) = cast(list[npt.NDArray[np.float32]], probe._onnx_product(kind, 1)())
    assert np.allclose(found, left @ right)


def test_a_probe_that_fails_is_told_and_leaves_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert driver._peak(1, told.append) is None
    reason = "the process ended with code 1: nothing was printed"
    assert told == [f"the limit of this machine was not found, {reason}: no share of it is told"]
