"""A bundle is of weights, whatever file holds them; bundles of earlier versions are of a file."""

from pathlib import Path

import pytest
import torch
from command_line import refusal, run
from exports import Exports
from json_files import edited_json

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle.source import is_source, open_source
from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.errors import CheckpointError, InvalidInput
from mobileclip_deploy.network.checkpoints import folded
from mobileclip_deploy.network.model.provenance import Recovered


@pytest.fixture(scope="module")
def other_file(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, written by torch."""
    path = tmp_path_factory.mktemp("checkpoint") / "mine.pt"
    torch.save(exports.weights(), path)
    return path


def of_an_earlier_version(bundle: Path) -> mcd.Bundle:
    with edited_json(bundle / "manifest.json") as manifest:
        del manifest["checkpoint"]["weights"]
        manifest["embedding_space"] = f"nano-{manifest['checkpoint']['sha256'][:16]}"
        manifest["environment"]["mobileclip-deploy"] = "0.0.1"  # another version words the card otherwise
    return mcd.Bundle.open(bundle)


@pytest.mark.slow
def test_the_same_weights_in_another_file_verify_and_compare(exports: Exports, other_file: Path) -> None:
    bundle = exports.bundle("onnx", "fp16")
    found = run("verify", bundle.path, "--checkpoint", other_file, "--checks", "quick", "--json")
    assert (found.code, found.json["passed"]) == (0, True)
    assert is_source(bundle, other_file)
    assert mcd.load_model(None, other_file).provenance.embedding_space == bundle.manifest.embedding_space  # type: ignore[union-attr]


def test_other_weights_do_not(exports: Exports, tmp_path: Path) -> None:
    bundle, weights = exports.bundle("onnx", "fp16"), exports.weights()
    name = next(name for name in weights if name.endswith("weight"))
    torch.save(weights | {name: weights[name] * 1.01}, tmp_path / "mine.pt")
    with pytest.raises(CheckpointError, match="is not the checkpoint this bundle was exported from"):
        open_source(bundle, tmp_path / "mine.pt")
    with pytest.raises(InvalidInput, match="not the checkpoint of any given bundle"):
        mcd.compare([bundle], checkpoint=tmp_path / "mine.pt")


def test_a_bundle_of_an_earlier_version_opens_and_is_that_of_its_file(
    exports: Exports, other_file: Path, tmp_path: Path
) -> None:
    bundle = of_an_earlier_version(exports.copy("onnx", "fp16", tmp_path))
    assert mcd.verify(bundle, checkpoint=exports.checkpoint, thorough=False).passed
    with pytest.raises(CheckpointError, match="is not the checkpoint"):
        open_source(bundle, other_file)
    rows = mcd.compare([bundle, exports.bundle("onnx", "fp32")]).bundles
    assert len({row.embedding_space for row in rows}) == 1


def test_recovered_weights_are_refused_with_the_version_that_reads_them(exports: Exports, tmp_path: Path) -> None:
    source = mcd.load_model().provenance
    recovered = {"precisions": {"image": "w4"}, "source_file": source.file, "source_sha256": source.sha256}
    line = (
        r"has weights that `recover` trained, which only version 0\.4\.0 reads and verifies; use that version, or "
        r"export weights\.safetensors with `rounding='tuned'`"
    )
    copy = exports.copy("onnx", "fp16", tmp_path)
    with edited_json(copy / "manifest.json") as manifest:
        manifest["checkpoint"]["recovered"] = recovered
    assert mcd.load_runner(mcd.Bundle.open(copy), tower="image") is not None
    with pytest.raises(InvalidInput, match=line):
        mcd.verify(copy)
    model = mcd.load_model()
    mcd.reparameterize(model)
    model.provenance = source.model_copy(update={"recovered": Recovered(**recovered)})
    folded.save(model, tmp_path / "recovered.safetensors")
    with pytest.raises(CheckpointError, match=line):
        mcd.load_model(None, tmp_path / "recovered.safetensors")


def test_variants_that_went_are_refused_with_the_version_that_has_them(exports: Exports, tmp_path: Path) -> None:
    copy = exports.copy("onnx", "fp16", tmp_path)
    with edited_json(copy / "manifest.json") as manifest:
        manifest["variant"] = manifest["checkpoint"]["variant"] = "fastvit_t8"
        del manifest["tokenizer"]
        manifest["preprocess"]["crop_fraction"] = 0.9
    line = "fastvit_t8 is a variant that only version 0.4.0 has; use that version to export or verify it"
    assert refusal(run("verify", copy)) == f"error: {line}"
    assert refusal(run("export", "--target", "onnx", "--variant", "FastViT-T8", "-o", tmp_path)).endswith("verify it")
    assert mcd.Bundle.open(copy).manifest.context_length == 0
    with edited_json(copy / "manifest.json") as manifest:
        manifest["tokenizer"] = {"kind": "wordpiece", "cleaning": "whitespace", "sot": 1, "eot": 2, "last": 101}
        (copy / "tokenizer" / "tokenizer.json").write_text("{}", encoding="utf-8")
        manifest["tokenizer"]["file_sha256"] = file_sha256(copy / "tokenizer" / "tokenizer.json")
    assert mcd.Bundle.open(copy).manifest.tokens.last == 101
