"""Both towers in one package: a function each, one file in the bundle, read and run by every command."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import refusal, run
from targets.coreml.test_coreml_runner import StandIn
from tiny import WORDS, known
from writing import chosen

import mobileclip_deploy as mcd
from mobileclip_deploy.base.files import artifact_bytes
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.export.request import ExportRequest, choose
from mobileclip_deploy.network.model.precision import parse_precisions
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target

pytestmark = [pytest.mark.converts, pytest.mark.slow]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small network's, whose card is known as long as it is asked for."""
    with known(tmp_path_factory.mktemp("small")) as path:
        yield path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> mcd.Bundle:
    model, options = mcd.load_model(WORDS, checkpoint), {"multifunction": True}
    folder = tmp_path_factory.mktemp("functions")
    return mcd.export(model, "coreml", "image=fp16,text=w6p", folder, options=options, verify=False)


def test_the_bundle_holds_one_package_with_a_function_for_each_tower(bundle: mcd.Bundle) -> None:
    assert [path.name for path in bundle.path.glob("*.mlpackage")] == ["tiny_words.mlpackage"]
    entries = bundle.manifest.towers
    assert {tower: (entry.file, entry.function) for tower, entry in entries.items()} == {
        tower: ("tiny_words.mlpackage", tower) for tower in TOWERS
    }
    assert bundle.bytes == artifact_bytes(bundle.path / "tiny_words.mlpackage") == entries["image"].bytes
    assert bundle.manifest.options == {"deployment_target": "iOS18", "multifunction": "on"}
    card = (bundle.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "`tiny_words.mlpackage`, function `text`" in card


def test_verify_compares_each_function_with_torch_and_with_a_fresh_conversion(
    bundle: mcd.Bundle, checkpoint: Path
) -> None:
    report = mcd.verify(bundle, checkpoint=checkpoint)
    assert report.passed, report
    for step in ("graph", "reproduced"):
        assert [check.tower for check in report.checks if check.step == step] == [*TOWERS]


def test_every_command_reads_it(bundle: mcd.Bundle) -> None:
    told = run("inspect", bundle.artifact("image"), "--json").json
    assert set(told["functions"]) == {"image", "text"}
    towers = run("inspect", bundle.path, "--json").json["towers"]
    assert {tower: entry["function"] for tower, entry in towers.items()} == {"image": "image", "text": "text"}
    assert towers["image"]["operators"] != towers["text"]["operators"]
    for path in (bundle.path, bundle.artifact("image")):
        linted = run("lint", path, "--json").json["packages"]
        assert [report["function"] for report in linted] == ["image", "text"]
    assert "dogs" in run("classify", bundle.path, image_paths()[4], "--labels", "dogs,a lake").stdout


def test_core_ml_is_asked_for_the_function(bundle: mcd.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    import coremltools as ct

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ct.models, "MLModel", StandIn)
    monkeypatch.setattr(StandIn, "asked", [])
    inputs = Reference.read(bundle.golden).inputs
    for tower in TOWERS:
        assert mcd.load_runner(bundle, tower)(inputs.of(tower)[:1]).shape == (1, 24)
    assert StandIn.asked == [("ALL", "image"), ("ALL", "text")]


@pytest.mark.parametrize(
    ("precisions", "system", "text"),
    [
        ("fp16", "iOS17", "needs iOS18 .*deployment target is iOS17; give iOS18 or leave"),
        ("w4", "iOS16", "w4 needs iOS18"),
    ],
)
def test_what_cannot_have_functions_is_refused(precisions: str, system: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        chosen("coreml", multifunction=True, deployment_target=system).require(parse_precisions(precisions))


def test_other_targets_formats_and_one_tower_alone_refuse_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`multifunction` is Core ML's; add `target='coreml'`"):
        choose(ExportRequest(("onnx",), options={"multifunction": True}))
    both = choose(ExportRequest(("onnx,coreml",), options={"multifunction": True}))
    assert [target.name for target, _ in both.pairs] == ["onnx", "coreml"]
    refused = refusal(run("export", "--target", "coreml", "--multifunction", "--tower", "text", "-o", tmp_path))
    assert "both towers into one package; leave it out for the text tower alone" in refused
    with pytest.raises(InvalidInput, match="tflite artifacts have no functions"):
        get_target("litert").open(Path("vision.tflite"), "image")


def test_a_deployment_target_that_is_not_given_is_raised_and_said() -> None:
    coreml, choice = chosen("coreml", multifunction=True), parse_precisions("fp16")
    assert vars(coreml.settled(choice).options)["deployment_target"] == "iOS18"
    assert "from iOS16 to iOS18, which `multifunction` needs" in str(coreml.advice(choice))
