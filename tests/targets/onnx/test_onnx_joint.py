"""CLIP's joint ONNX file: what it holds, how it is checked, and what is refused."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from command_line import run
from json_files import edited_json
from onnx import numpy_helper
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.targets import get_target

INPUTS, OUTPUTS = (
    ("input_ids", "pixel_values"),
    ("image_embeds", "logits_per_image", "logits_per_text", "text_embeds"),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with known(tmp_path_factory.mktemp("small")) as path:
        yield path


def export(checkpoint: Path, output: Path, precision: str = "fp32", **options: Any) -> mcd.Bundle:
    model = mcd.load_model(WORDS, checkpoint)
    return mcd.export(model, "onnx", precision, output, options=options, verify=False)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> mcd.Bundle:
    return export(checkpoint, tmp_path_factory.mktemp("also"), joint="also")


def joint_of(bundle: mcd.Bundle) -> Path:
    assert bundle.manifest.joint is not None
    return bundle.path / bundle.manifest.joint.file


def test_the_file_has_clip_s_names_and_the_bytes_of_both_towers(bundle: mcd.Bundle) -> None:
    model = onnx.load(joint_of(bundle))
    assert joint_of(bundle).name == "model.onnx"
    assert tuple(sorted(value.name for value in model.graph.input)) == INPUTS
    assert tuple(sorted(value.name for value in model.graph.output)) == OUTPUTS
    apart = sum(entry.bytes for entry in bundle.manifest.towers.values())
    assert 0 < artifact_bytes(joint_of(bundle)) - apart < 12_000


def test_a_tower_of_the_file_is_the_tower_s_own_file_field_by_field(bundle: mcd.Bundle) -> None:
    for tower in TOWERS:
        joined: Any = get_target("onnx").open(joint_of(bundle), tower)
        model, alone = joined.model, onnx.load(bundle.artifact(tower))
        for each in (model, alone):
            del each.metadata_props[:]
        assert model.SerializeToString(deterministic=True) == alone.SerializeToString(deterministic=True)
    with pytest.raises(InvalidInput, match=r"model\.onnx has no audio tower; export it again with `joint`"):
        _ = get_target("onnx").open(joint_of(bundle), "audio").inputs


def found(bundle: mcd.Bundle, checkpoint: Path) -> dict[str, str]:
    """The outcome of each check of the joint file."""
    checks = mcd.verify(bundle, checkpoint=checkpoint).checks
    return {f"{check.tower} {check.detail}": check.status for check in checks if check.step == "joint"}


def halve_scale(graph: onnx.GraphProto) -> None:
    (scale,) = (item for item in graph.initializer if item.name == "joint_scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.001), scale.name))


def move_weight(graph: onnx.GraphProto) -> None:
    weight = max(graph.initializer, key=lambda item: len(item.raw_data))
    values = numpy_helper.to_array(weight).copy()
    values.flat[-1] += 1e-4
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def leave_length(graph: onnx.GraphProto) -> None:
    (node,) = (node for node in graph.node if node.op_type == "Div" and node.output[0] == "image_embeds")
    node.op_type = "Add"


def turn_logits(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.output[0] == "logits_per_text")
    node.input[0] = "joint_cosines"


FAULTS: tuple[Callable[[onnx.GraphProto], None], ...] = (halve_scale, move_weight, leave_length, turn_logits)


@pytest.mark.parametrize("fault", [FAULTS[0], *(pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS[1:])])
def test_a_planted_fault_fails_the_check(
    bundle: mcd.Bundle, checkpoint: Path, fault: Callable[[onnx.GraphProto], None], tmp_path: Path
) -> None:
    copy = mcd.Bundle.open(shutil.copytree(bundle.path, tmp_path / bundle.path.name))
    model = onnx.load(joint_of(copy))
    fault(model.graph)
    joint_of(copy).write_bytes(model.SerializeToString())
    with edited_json(copy.path / "manifest.json") as edited:
        edited["joint"] |= {"sha256": artifact_sha256(joint_of(copy)), "bytes": artifact_bytes(joint_of(copy))}
    assert "failed" in found(mcd.Bundle.open(copy.path), checkpoint).values()


@pytest.mark.slow
def test_the_check_passes_a_sound_bundle(bundle: mcd.Bundle, checkpoint: Path) -> None:
    assert [*found(bundle, checkpoint).values()] == ["passed"] * 6


@pytest.mark.slow
def test_the_file_alone_is_checked_as_its_towers_are(checkpoint: Path, tmp_path: Path) -> None:
    alone = export(checkpoint, tmp_path / "only", "w8", joint="only", opset="20")
    apart = export(checkpoint, tmp_path / "apart", "w8")
    assert [path.name for path in (alone.path / "onnx").iterdir()] == [joint_of(alone).name]
    assert {entry.function for entry in alone.manifest.towers.values()} == set(TOWERS)
    report = mcd.verify(alone, checkpoint=checkpoint)
    assert not report.failed
    assert {"weights", "graph", "shipped", "reproduced", "joint"} <= {check.step for check in report.checks}
    ids = mcd.tokenize(["a cat"], alone)
    assert np.array_equal(mcd.load_runner(alone, "text")(ids), mcd.load_runner(apart, "text")(ids))
    also = export(checkpoint, tmp_path / "also", "w8", joint="also")
    assert {t: e.sha256 for t, e in also.manifest.towers.items()} == {
        t: e.sha256 for t, e in apart.manifest.towers.items()
    }


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"options": {"joint": "both"}}, "`joint` both: it is also or only"),
        ({"options": {"joint": "also"}, "tower": "text"}, "`joint` needs both towers at one precision"),
        ({"options": {"joint": "also"}, "precision": "image=fp16,text=w8"}, "needs both towers at one precision"),
        ({"options": {"joint": "also"}, "layout": "immich"}, "`joint` has no `layout`"),
        ({"options": {"joint": "also"}, "input": "bytes"}, "`joint` has no `layout`, `contexts` or `input='bytes'`"),
        ({"options": {"joint": "only"}, "precision": "smallest"}, "searches each tower alone; leave `joint` out"),
    ],
)
def test_what_has_no_joint_file_is_refused(asked: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        mcd.export(mcd.load_model(), "onnx", output=tmp_path, **asked)


def test_the_flag_takes_no_value_or_only() -> None:
    for value in ((), ("only",)):
        refused = run("export", "--target", "onnx", "--tower", "text", "--joint", *value, "-o", "out")
        assert "--joint needs both towers at one precision; leave --joint out" in refused.stderr
