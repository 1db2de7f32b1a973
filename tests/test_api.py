"""The Python functions, called as the README's script calls them, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy import errors
from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.source import find_checkpoint
from mobileclip_deploy.errors import CheckpointError, InvalidInput, MobileClipDeployError, UsageError
from mobileclip_deploy.network.checkpoints import folded
from mobileclip_deploy.network.folding import is_folded
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.parity.reference import Reference


def test_a_model_is_loaded_in_training_form_eval_mode_and_float32(exports: Exports) -> None:
    model = mcd.load_model(None, exports.checkpoint)
    assert not is_folded(model)
    assert not model.training
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert model.encode_image(torch.zeros(2, 3, 64, 64)).shape == (2, 128)
    assert mcd.load_model().provenance.builtin


def test_reparameterizing_happens_in_place_and_twice_changes_nothing(exports: Exports) -> None:
    model = mcd.load_model(None, exports.checkpoint)
    report = mcd.reparameterize(model)
    assert is_folded(model)
    assert (report.batch_norms_after, report.parameters_after < report.parameters_before) == (0, True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mcd.reparameterize(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_runner_answers_as_the_golden_file_says(exports: Exports, target: str) -> None:
    bundle = exports.bundle(target, "fp16")
    golden = Reference.read(bundle.golden)
    for tower in ("image", "text"):
        runner = mcd.load_runner(bundle.path, tower)
        found, wanted = runner(golden.inputs.of(tower)[:2]), golden.of(tower)[:2]
        cosine = (found * wanted).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
        assert found.dtype == np.float32
        assert cosine.min() >= 0.999


def test_two_precisions_in_one_bundle(exports: Exports, tmp_path: Path) -> None:
    model = mcd.load_model(None, exports.checkpoint)
    bundle = mcd.export(model, "onnx", "image=fp16,text=fp32", tmp_path, verify=False)
    assert bundle.path.name == "nano-onnx-image-fp16-text-fp32"
    assert {tower: entry.file for tower, entry in bundle.manifest.towers.items()} == {
        "image": "onnx/vision_model_fp16.onnx",
        "text": "onnx/text_model.onnx",
    }
    assert mcd.verify(bundle, checkpoint=exports.checkpoint).passed


def test_one_tower_alone(exports: Exports, tmp_path: Path) -> None:
    bundle = mcd.export(mcd.load_model(None, exports.checkpoint), "onnx", "fp32", tmp_path, tower="image")
    assert list(bundle.manifest.towers) == ["image"]
    assert not (bundle.path / "onnx" / "text_model.onnx").exists()
    with pytest.raises(UsageError, match="no text tower"):
        mcd.load_runner(bundle, "text")
    with pytest.raises(UsageError, match="no text tower"):
        mcd.evaluate(bundle, dataset="builtin")


def test_lists_ask_for_several_bundles_and_a_name_for_one(exports: Exports, tmp_path: Path) -> None:
    model = mcd.load_model(None, exports.checkpoint)
    several = mcd.export_all(model, ["onnx"], ("fp32", "fp16"), tmp_path, verify=False, tower="image")
    assert [bundle.path.name for bundle in several] == ["nano-onnx-fp32", "nano-onnx-fp16"]
    one = mcd.export(model, "onnx", "fp32", tmp_path, verify=False, tower="image", force=True)
    assert one.path == several[0].path
    with pytest.raises(
        UsageError, match=r"2 bundles \(nano-onnx-fp32, nano-coreml-fp32\); export several with `export_all`"
    ):
        mcd.export(model, "onnx,coreml", "fp32", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda _: mcd.export(mcd.load_model()), "no target is given; known: onnx, coreml"),
        (
            lambda _: mcd.export_all(mcd.load_model(), "onnx", ["fp32", "smallest"]),
            "`precision='smallest'` must be the only precision",
        ),
        (lambda _: mcd.export(mcd.load_model(), "onnx", labels="cat"), "one label, 'cat'"),
        (lambda _: mcd.export(mcd.load_model(), "onnx", labels=[]), "no label; give two"),
        (lambda _: mcd.export(mcd.load_model(), "onnx", template="a {}"), "give both"),
        (lambda here: mcd.convert(here, "folded", here), "replace it with `force=True`"),
        (lambda here: mcd.reparameterize(mcd.load_model(), here), "replace it with `force=True`"),
        (lambda here: mcd.benchmark(here, threads=0), "`threads` 0: write a number"),
        (lambda _: mcd.export(mcd.load_model(), "coreml", options={"deployment_target": 17}), "takes a str, not 17"),
        (lambda _: mcd.export(mcd.load_model(), "coreml", options={"multifunction": "yes"}), "takes a bool, not 'yes'"),
        (lambda here: mcd.report(here, "page.pdf"), "`outputs` page.pdf: a report ends with"),
    ],
)
def test_what_python_is_given_wrongly_is_refused_in_its_words(tmp_path: Path, call: Any, says: str) -> None:
    here = tmp_path / "there.safetensors"
    here.write_text("mine")
    with pytest.raises(MobileClipDeployError, match=says) as refused:
        call(here)
    assert "--" not in str(refused.value)
    assert here.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [here]


def test_a_folded_checkpoint_is_written_with_its_report(tmp_path: Path) -> None:
    output = tmp_path / "new" / "folded.safetensors"
    report = mcd.reparameterize(mcd.load_model(), output)
    told = json.loads((tmp_path / "new" / "folded.report.json").read_text())
    assert told["deviation"] == report.deviation is not None
    assert is_folded(mcd.load_model(checkpoint=output))


def test_a_model_of_unknown_origin_is_not_exported(exports: Exports, tmp_path: Path) -> None:
    model = mcd.load_model(None, exports.checkpoint)
    model.provenance = None
    with pytest.raises(CheckpointError, match="load_model"):
        mcd.export(model, "onnx", "fp32", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_checkpoint_is_found_beside_the_bundle_by_name_and_hash(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = Bundle.open(exports.copy("onnx", "fp16", tmp_path))
    assert find_checkpoint(bundle) is None
    assert find_checkpoint(Bundle(Path("/nano-onnx-fp16"), bundle.manifest)) is None  # in the root folder
    (tmp_path / "mine.safetensors").write_bytes(b"another file of that name")
    assert find_checkpoint(bundle) is None
    (tmp_path / "mine.safetensors").write_bytes(exports.checkpoint.read_bytes())
    assert find_checkpoint(bundle) == tmp_path / "mine.safetensors"


def test_another_checkpoint_is_refused(exports: Exports, tmp_path: Path) -> None:
    other = exports.weights()
    torch.save({name: value * 1.001 if "conv" in name else value for name, value in other.items()}, tmp_path / "o.pt")
    with pytest.raises(CheckpointError, match="not the checkpoint"):
        mcd.verify(exports.bundle("onnx", "fp16"), checkpoint=tmp_path / "o.pt")


@pytest.mark.slow
def test_a_folded_copy_of_the_checkpoint_is_the_checkpoint(exports: Exports, tmp_path: Path) -> None:
    model = mcd.load_model(None, exports.checkpoint)
    mcd.reparameterize(model)
    folded.save(model, tmp_path / "f.safetensors")
    assert mcd.verify(exports.bundle("onnx", "fp16"), checkpoint=tmp_path / "f.safetensors").passed


@pytest.mark.parametrize("given", ["images", "prompts", "dataset"])
def test_inputs_of_ones_own_need_the_checkpoint(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="`checkpoint`"):
        mcd.verify(exports.copy("onnx", "fp16", tmp_path), **{given: tmp_path})  # type: ignore[arg-type]


@pytest.mark.slow  # end_to_end/test_nano.py holds nano to its own
def test_figures_are_accepted_and_held_to(exports: Exports, tmp_path: Path) -> None:
    bundle, lock = exports.bundle("onnx", "fp16"), tmp_path / "parity.lock.json"
    with pytest.raises(UsageError, match="name it with `baseline`"):
        mcd.verify(bundle, accept=True)
    with pytest.raises(InvalidInput, match=r"no lock file at .* with `accept=True`"):
        mcd.verify(bundle, checkpoint=exports.checkpoint, thorough=False, baseline=lock)
    assert mcd.verify(bundle, checkpoint=exports.checkpoint, thorough=False, baseline=lock, accept=True).passed
    report = mcd.verify(bundle, checkpoint=exports.checkpoint, thorough=False, baseline=lock)
    assert [check.status for check in report.checks if check.step == "baseline"] == ["passed", "passed"]


def test_embeddings_are_not_normalised() -> None:
    model = build_model(load_variant("nano"))
    image = mcd.load_runner(model, "image")(np.full((1, 3, 64, 64), 0.5, np.float32))
    text = mcd.load_runner(model, "text")(mcd.tokenize(["a cat"]))
    assert all(abs(np.linalg.norm(one) - 1) > 1e-2 for one in (image, text))


def test_errors_are_of_one_kind_with_remedies_in_pythons_words(tmp_path: Path) -> None:
    kinds = [
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.MobileClipDeployError)
    ]
    assert all(issubclass(kind, mcd.MobileClipDeployError) for kind in kinds)
    calls: list[Any] = [
        lambda: mcd.inspect(tmp_path / "gone"),
        lambda: mcd.load_model("nanoo"),
        lambda: mcd.load_runner(tmp_path, "image"),
        lambda: mcd.preprocess([], "nano"),
        lambda: mcd.export(mcd.load_model(), "onxn", output=tmp_path),
    ]
    for call in calls:
        with pytest.raises(mcd.MobileClipDeployError) as refused:
            call()
        assert type(refused.value) in kinds
        assert "\n" not in str(refused.value)
    assert mcd.tokenize(["a", "b"]).dtype == np.int64
