"""A classifier of fixed labels: image in, probabilities out, no text tower."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from command_line import refusal, run
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.heads.labels import LabelSet, given_labels
from mobileclip_deploy.artifacts.towers.classifier import label_embeddings
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.benchmark.job import get_protocol
from mobileclip_deploy.benchmark.request import Request
from mobileclip_deploy.benchmark.running import build_job
from mobileclip_deploy.cli.tables import print_exports
from mobileclip_deploy.errors import InvalidInput, NotRun, UsageError
from mobileclip_deploy.evaluation.classification import classify
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.export.steps import Written
from mobileclip_deploy.parity import ParityReport
from mobileclip_deploy.targets.mil import load

LABELS = ["cat face", "pizza", "automobile", "été", "tree"]


# LiteRT's: spaces/test_forms.py, with smaller embeddings.
@pytest.fixture(scope="module", params=["onnx", pytest.param("coreml", marks=pytest.mark.slow)])
def bundle(request: pytest.FixtureRequest, exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> mcd.Bundle:
    """A verified classifier of each target; the checkpoint lies beside it."""
    folder = tmp_path_factory.mktemp("classifiers")
    shutil.copy(exports.checkpoint, folder)
    model = mcd.load_model(None, exports.checkpoint)
    return mcd.export(model, request.param, "fp16", folder, labels=LABELS, template="a {}")


def test_it_holds_one_tower_its_labels_and_no_tokenizer_and_in_core_ml_what_vision_looks_for(
    bundle: mcd.Bundle,
) -> None:
    manifest = bundle.manifest
    assert list(manifest.towers) == ["image"]
    assert (list(manifest.classifier.labels), manifest.classifier.template) == (LABELS, "a {}")
    assert json.loads((bundle.artifact("image").parent / "labels.json").read_text(encoding="utf-8")) == LABELS
    assert not (bundle.path / "tokenizer").exists()
    assert {check.status for check in bundle.parity} == {"passed"}
    assert "there is no text tower" in (bundle.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    if bundle.manifest.target == "coreml":
        program = load(bundle.artifact("image"))
        assert [(port.name, port.kind) for port in program.outputs] == [
            ("classLabel", "label"),
            ("classLabel_probs", "probabilities"),
        ]


def test_it_answers_as_the_two_towers_do(bundle: mcd.Bundle, exports: Exports) -> None:
    images = builtin_dataset().images[:4]
    found = classify(bundle.path, images, None)
    wanted = classify(exports.bundle("onnx", "fp32").path, images, LABELS, "a {}")
    for one, other in zip(found, wanted, strict=True):
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.02)


def test_the_labels_weights_are_the_same_bytes_on_any_number_of_threads() -> None:
    kept = torch.get_num_threads()
    found = set()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            # A network of its own each time: embeddings of labels are kept with it.
            found.add(label_embeddings(mcd.load_model(), LabelSet(tuple(LABELS), "a {}")).tobytes())
    finally:
        torch.set_num_threads(kept)
    assert len(found) == 1


def test_classify_needs_no_labels_and_takes_none(bundle: mcd.Bundle) -> None:
    image = builtin_dataset().images[0]
    found = run("classify", bundle.path, image, "--json")
    assert found.code == 0
    assert set(found.json[0]["probabilities"]) == set(LABELS)
    assert "leave --labels out" in refusal(run("classify", bundle.path, image, "--labels", "a,b"))


@pytest.mark.slow
def test_verify_finds_other_labels_and_needs_the_checkpoint(bundle: mcd.Bundle, tmp_path: Path) -> None:
    if bundle.manifest.target != "onnx":
        return
    assert mcd.verify(bundle).passed
    manifest = bundle.manifest
    swapped = manifest.classifier.model_copy(update={"labels": tuple(reversed(LABELS))})
    report = mcd.verify(mcd.Bundle(bundle.path, manifest.model_copy(update={"classifier": swapped})))
    failed = ["companions", "golden probabilities", "shipped", "graph", "reproduced"]
    assert [check.step for check in report.failed] == failed
    gone = manifest.checkpoint.model_copy(update={"sha256": "0" * 64})
    report = mcd.verify(mcd.Bundle(bundle.path, manifest.model_copy(update={"checkpoint": gone})))
    assert [check.step for check in report.not_run] == [
        "settings",
        "companions",
        "golden",
        "twin",
        "weights",
        "reproduced",
    ]
    assert "shipped" in {check.step for check in report.checks if check.status == "passed"}  # by the stored ones


def test_it_has_no_embeddings_to_write(bundle: mcd.Bundle, tmp_path: Path) -> None:
    line = refusal(run("embed", bundle.path, builtin_dataset().images[0], "-o", tmp_path / "e.npy"))
    assert f"{bundle.path.name} is a classifier of 5 labels and has no embeddings; use `classify`" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_benchmark_holds_it_to_the_checkpoints_probabilities(bundle: mcd.Bundle, tmp_path: Path) -> None:
    if bundle.manifest.target == "coreml":
        driver, protocol = get_driver("ios"), get_protocol("standard")
        with pytest.raises(NotRun, match="outputs a dictionary of labels"):
            build_job(Request((bundle,)), driver, protocol, 1, "a-run", tmp_path)
        return
    found = run("benchmark", bundle.path, "--quick", "--json", tmp_path / "r.json")
    assert found.code == 0, found.stderr
    (cell,) = read_result(tmp_path / "r.json").cells
    assert (cell.status, cell.golden.passed) == ("done", True)


def test_the_table_of_an_export_says_how_near_its_probabilities_are_and_explains_no_column_that_it_lacks(
    bundle: mcd.Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    report = ParityReport(bundle=bundle.path.name, variant="nano", target="onnx", checks=bundle.parity)
    print_exports([Written(bundle, report)])
    told = capsys.readouterr().out
    assert f"{bundle.path.name}: probabilities within" in told
    assert "deviation" not in told


def test_an_ordinary_bundle_needs_labels(exports: Exports) -> None:
    image = builtin_dataset().images[0]
    assert "give labels with --labels" in refusal(run("classify", exports.bundle("onnx", "fp32").path, image))


def test_labels_come_from_a_list_or_a_file_of_utf_8(tmp_path: Path) -> None:
    assert given_labels("cat, dog ,", "a {}") == LabelSet(("cat", "dog"), "a {}")
    (tmp_path / "labels.txt").write_text("cat, black\n\ndog\n", encoding="utf-8")
    assert given_labels(str(tmp_path / "labels.txt")).names == ("cat, black", "dog")
    (tmp_path / "labels.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InvalidInput, match="UTF-8"):
        given_labels(str(tmp_path / "labels.txt"))


@pytest.mark.parametrize(
    ("text", "template", "says"),
    [
        ("cat", None, "one label, 'cat'; give two labels or more"),
        ("cat,", None, "one label"),
        ("labels.txt", None, "labels.txt: no such file"),
        ("../of,mine/labels", None, "no such file"),
        ("cats,dogs.txt", None, "no such file"),
        ("cat,cat", None, "twice"),
        (",", None, "no label"),
        ("cat,dog", "a photo", r"no \{\}"),
    ],
)
def test_labels_that_make_no_classifier_are_refused(text: str, template: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        given_labels(text, template)


def test_classify_and_export_read_labels_alike(exports: Exports, tmp_path: Path) -> None:
    image, bundle = builtin_dataset().images[0], exports.bundle("onnx", "fp32").path
    (tmp_path / "labels.txt").write_text("cat\n\ntraffic light\n", encoding="utf-8")
    found = run("classify", bundle, image, "--labels", tmp_path / "labels.txt", "--json")
    assert set(found.json[0]["probabilities"]) == {"cat", "traffic light"}
    for text, says in (("cat", "one label, 'cat'"), (tmp_path / "gone.txt", "no such file"), ("a,b,a", "'a' twice")):
        lines = [
            refusal(run("classify", bundle, image, "--labels", text)),
            refusal(run("export", "--target", "onnx", "-o", tmp_path / "out", "--labels", text)),
        ]
        assert says in lines[0]
        assert lines[0] == lines[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("labels", [["cat"], ["cat", "cat"], []])
def test_labels_that_tell_nothing_apart_are_refused_in_python_too(
    labels: list[str], exports: Exports, tmp_path: Path
) -> None:
    bundle = exports.bundle("onnx", "fp32")
    with pytest.raises(UsageError, match=r"two labels or more|twice"):
        mcd.classify(bundle.path, [builtin_dataset().images[0]], labels)
    if labels:  # none at all is a bundle of towers
        with pytest.raises(UsageError, match=r"two labels or more|twice"):
            mcd.export(mcd.load_model(), "onnx", "fp32", tmp_path, labels=labels)


def test_the_command_line_refuses_what_makes_no_classifier(tmp_path: Path) -> None:
    export = ["export", "--target", "onnx", "-o", tmp_path]
    assert "give both" in refusal(run(*export, "--template", "a {}"))
    assert "--tower text" in refusal(run(*export, "--labels", "a,b", "--tower", "text"))
    assert list(tmp_path.iterdir()) == []
