"""A runtime that computes for proof is asked as many inputs as a table says, and the report says how many."""

from pathlib import Path

import numpy as np
import pytest
from exports import Exports
from writing import slow_runtime, subject

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TowerName, load_variant
from mobileclip_deploy.network.samples import prompts
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.pictures.checkpoint_embedder import TorchRunner
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.onnx.opening import OnnxArtifact
from mobileclip_deploy.verify.instruments.pace import duration_notice, sample_size, spread_rows


@pytest.mark.parametrize(
    ("variant", "tower", "asked"),
    [
        ("nano", "image", 16),
        ("nano", "text", 16),
        ("mobileclip_s0", "image", 4),
        ("mobileclip_s0", "text", 4),
        ("mobileclip2_s4", "image", 2),
        ("mobileclip2_s4", "text", 2),
    ],
)
def test_core_ai_is_asked_fewer_inputs_the_more_a_tower_computes(variant: str, tower: TowerName, asked: int) -> None:
    size = load_variant(variant).preprocess.size
    assert sample_size(get_target("coreai"), variant, size, tower) == asked
    assert sample_size(get_target("coreai"), variant, size, tower, thorough=False) == 2
    assert sample_size(get_target("onnx"), variant, size, tower) is None


@pytest.mark.parametrize("count", [2, 3, 4, 8, 16])
def test_the_shortest_and_the_longest_prompt_are_asked(count: int) -> None:
    ids = encode(prompts())
    rows = spread_rows(ids, "text", count)
    lengths = (ids != 0).sum(axis=1)
    assert len(set(rows)) == len(rows) == count
    assert list(rows) == sorted(rows)
    assert {lengths.min(), lengths.max()} <= set(lengths[rows])
    pixels = np.zeros((16, 3, 2, 2), np.float32)
    assert [spread_rows(pixels, "image", count)[place] for place in (0, -1)] == [0, 15]
    assert list(spread_rows(pixels, "image", 99)) == list(range(16))


def test_minutes_are_told_before_they_are_spent() -> None:
    s0: dict[TowerName, str] = {"image": "fp16", "text": "fp16"}
    told = duration_notice(get_target("coreai"), "mobileclip_s0", 256, s0)
    assert told.startswith("Core AI: about ")
    assert told.endswith(" min of CPU time for 8 inputs in the vendor's runtime; the quick checks run 4.")
    assert duration_notice(get_target("coreai"), "nano", 64, s0) is None
    assert duration_notice(get_target("onnx"), "mobileclip_s0", 256, s0) is None


@pytest.mark.slow
def test_the_report_says_how_many_inputs_were_asked_and_what_stood_in(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exports.bundle("onnx", "fp16").path
    slow_runtime(monkeypatch, "onnx", 3)
    report = mcd.verify(path, thorough=False, dataset="builtin")
    shipped = {check.tower: check for check in report.checks if check.step == "shipped"}
    assert {tower: check.detail for tower, check in shipped.items()} == {
        "image": "2 of 16 inputs",
        "text": "2 of 24 inputs",
    }
    (sampled,) = [check for check in report.checks if check.step == "sampled"]
    assert sampled.status == "passed"
    assert (sampled.engine or "").endswith("with the weights that stand in the file")
    assert report.passed, [c for c in report.checks if c.status != "passed"]


def test_an_artifact_s_own_stand_in_is_asked_where_its_weights_were_not_matched(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = exports.bundle("onnx", "fp16")
    opened = subject(bundle, None, Reference.read(bundle.golden), tmp_path)
    slow_runtime(monkeypatch, "onnx", 3)
    assert opened.towers["image"].runner_for_all() is opened.towers["image"].runner
    own = TorchRunner("its own", lambda inputs: np.zeros((len(inputs), 1), np.float32))
    monkeypatch.setattr(OnnxArtifact, "stand_in", lambda self: own)
    assert opened.towers["image"].runner_for_all() is own
