"""`verify --explain` on whole bundles: fresh conversion, words and JSON, and what float16 hides from the gates."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner
from exports import Exports, rehash
from faults.conftest import Healthy, followed, restamped
from faults.coreml_edits import bytes_unscaled, epsilon, output_renamed
from faults.planting import Planted

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.cli import cli
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.verify import chain, opening
from mobileclip_deploy.verify.reports.explanation import compare_programs, explain_subject

pytestmark = pytest.mark.usefixtures("stored_embeddings")


@pytest.fixture(scope="module")
def damaged(half: Healthy, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A float16 bundle with a fault in each tower, that of the text tower too small for the gate of float16."""
    path = tmp_path_factory.mktemp("damaged") / half.bundle.path.name
    shutil.copytree(half.bundle.path, path)
    bundle = Bundle(path, half.bundle.manifest)
    for tower, plant in (("image", bytes_unscaled), ("text", epsilon)):
        package = Planted(bundle.artifact(tower))  # type: ignore[arg-type]
        plant(package)
        package.save()
    return restamped(bundle)


def test_an_intact_bundle_needs_no_explanation(half: Healthy) -> None:
    for found in explain_subject(half.subject(half.bundle)):
        assert found.finding in ("none", "precision")
        assert "the same graph and weights as a fresh conversion" in found.detail


@pytest.fixture
def gates_left_out(monkeypatch: pytest.MonkeyPatch, damaged: Bundle) -> None:
    """The command without its checks and the accuracy they compare, tested elsewhere: an explanation needs neither."""
    check = Check(step="shipped", tower="image", status="failed")
    report = ParityReport(bundle=damaged.path.name, variant="nano", target="coreml", checks=(check,))
    monkeypatch.setattr(chain, "verify_subject", lambda *_: report)
    monkeypatch.setattr(opening, "accuracy_dataset", lambda *_: None)


@pytest.mark.usefixtures("gates_left_out")
def test_the_command_names_the_operations(damaged: Bundle) -> None:
    result = CliRunner().invoke(cli, ["verify", str(damaged.path), "--explain"])
    assert result.exit_code == 1, result.exception
    assert "image tower: mul 'image__scaled__' (operation 1 of" in result.output
    assert "its y is 1, not 0.00392157" in result.output
    assert "text tower: layer_norm 'layer_norm_cast_fp16'" in result.output


@pytest.mark.usefixtures("gates_left_out")
def test_the_command_gives_them_as_json(damaged: Bundle) -> None:
    result = CliRunner().invoke(cli, ["verify", str(damaged.path), "--explain", "--json"])
    assert result.exit_code == 1, result.exception
    found = json.loads(result.stdout)["explanations"]
    assert [(item["tower"], item["finding"], item["type"]) for item in found] == [
        ("image", "operation", "mul"),
        ("text", "operation", "layer_norm"),
    ]
    assert found[0]["relative"] > 1
    assert "epsilon" in found[1]["detail"]


@pytest.mark.parametrize(("plant", "named"), [(bytes_unscaled, "image__scaled__"), (output_renamed, None)])
def test_the_gates_fail_and_the_difference_is_explained(
    healthy: Healthy, plant: Any, named: str | None, tmp_path: Path
) -> None:
    bundle, operation = healthy.planted("image", tmp_path, plant)
    assert operation == named
    failed = {check.tower for check in healthy.checks(bundle, "image") if check.status == "failed"}
    assert failed == {"image"}
    written, fresh = followed(bundle, "image"), healthy.programs["image"]
    found = compare_programs("image", written, fresh, healthy.feeds("image"))
    assert (found.finding, found.operation) == ("operation" if operation else "interface", operation)
    assert operation is None or (found.relative or 0) > 1e-2


def test_a_package_that_cannot_be_read_is_said_to_be_so(half: Healthy, tmp_path: Path) -> None:
    bundle = half.copy("image", tmp_path)
    (bundle.artifact("image") / "Manifest.json").write_text("{}")
    (found,) = explain_subject(half.subject(bundle))
    assert found.finding == "unreadable"
    assert "Manifest.json" in found.describe()


@pytest.mark.slow
def test_an_artifact_of_another_target_is_explained_by_its_graph(exports: Exports, tmp_path: Path) -> None:
    path = exports.copy("onnx", "fp32", tmp_path)
    assert {found.finding for found in mcd.explain(path, checkpoint=exports.checkpoint)} == {"none"}
    file = path / "onnx" / "text_model.onnx"
    model = onnx.load(file)
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    next(attribute for attribute in softmax.attribute if attribute.name == "axis").i = -2
    onnx.save(model, file)
    rehash(path)
    image, text = mcd.explain(path, checkpoint=exports.checkpoint)
    assert image.finding == "none"
    assert (text.finding, text.type, text.operation) == ("operation", "Softmax", softmax.name)
    assert text.detail == "its axis is -2, not -1"
