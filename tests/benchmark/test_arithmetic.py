"""How much a tower computes, and what its operators take."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark import documents
from command_line import run
from torch import Tensor, nn

from mobileclip_deploy.artifacts.towers.arithmetic import tower_arithmetic
from mobileclip_deploy.benchmark.assembly import arithmetic_of, complete
from mobileclip_deploy.benchmark.documents import write_document
from mobileclip_deploy.benchmark.judgement import on_cores
from mobileclip_deploy.benchmark.report.operators import operator_rows
from mobileclip_deploy.benchmark.result import Result
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


def test_what_computes_beside_the_cores_is_no_work_of_theirs() -> None:
    cell = documents.job().cells[0]
    assert on_cores(cell.model_copy(update={"compute_units": "cpuOnly"}))
    for changes in ({"compute_units": "cpuAndNeuralEngine"}, {"compute_units": "all"}, {"backend": "gpu"}):
        assert not on_cores(cell.model_copy(update=changes))


def test_a_result_says_how_much_an_inference_computes() -> None:
    whole = documents.result().model_dump(mode="json")
    assert complete(documents.result()).cells[0].arithmetic_operations is None
    for cell in whole["job"]["cells"]:
        cell["input"]["shape"] = [1, 3, 64, 64]
    # A result of 0.3 has the limit of its cores, which nothing reads any more.
    whole["job"]["protocol"]["short_probe"] = False
    found = complete(Result.model_validate_json(json.dumps(whole | {"peaks": [{"threads": 1}]})))
    assert found.cells[0].arithmetic_operations == tower_arithmetic("nano", "image", 64)
    assert "peaks" not in found.model_dump()


WORK = {"arithmetic_operations": 10**9, "moved_bytes": 10**7, "kind": "7x7 depthwise", "arithmetic": "float32"}


def test_a_report_has_the_times_of_operators_and_what_takes_little_in_one_row(tmp_path: Path) -> None:
    whole = documents.result().model_dump(mode="json")
    small = [{"operator": f"small {n}", "calls": 2, "total_ns": 1000} for n in range(13)]
    profile = [{"operator": "Conv", "calls": 2, "total_ns": 4_000_000, "work": WORK}, *small]
    whole["cells"][0]["profile"] = whole["cells"][0]["rounds"][0]["profile"] = profile
    result = Result.model_validate(whole)
    rows = operator_rows(result.cells[0].profile)
    assert rows[0] == ("Conv 7x7 depthwise", "2", "4.000", "99.7")
    assert (len(rows), rows[-1]) == (13, ("2 others", "4", "0.002", "0.0"))
    write_document(tmp_path / "r.json", result)
    for name in ("r.html", "r.md"):
        assert run("report", tmp_path / "r.json", "-o", tmp_path / name).code == 0
        assert "Conv 7x7 depthwise" in (tmp_path / name).read_text(encoding="utf-8")
