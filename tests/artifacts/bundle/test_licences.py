"""LICENSES/ of a bundle: what it holds for whom, and who may not be exported for a product."""

import hashlib
import shutil
from pathlib import Path

import pytest
from command_line import refusal, run
from exports import Exports
from json_files import edited_json

from mobileclip_deploy import export, inspect, load_model
from mobileclip_deploy.artifacts.bundle import Bundle, Manifest
from mobileclip_deploy.artifacts.bundle.licences import changes_made, notice, require_product, write_licences
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.provenance import Compacted
from mobileclip_deploy.network.model.variants import load_variant

AMLR = load_variant("mobileclip2_s0").licence.text


def of_apple(exports: Exports) -> Manifest:
    """A manifest as one of MobileCLIP2-S0 would be."""
    manifest = exports.bundle("onnx", "fp16").manifest
    return manifest.model_copy(update={"variant": "mobileclip2_s0"})


def test_a_bundle_carries_the_text_and_says_so(exports: Exports) -> None:
    bundle = exports.bundle("onnx", "fp16")
    entry = bundle.manifest.licence
    assert [file.file for file in entry.files] == ["LICENSES/CC-BY-SA-4.0.txt", "LICENSES/NOTICE.txt"]
    assert b"Attribution-ShareAlike 4.0" in (bundle.path / entry.files[0].file).read_bytes()
    assert (bundle.path / "LICENSES/NOTICE.txt").read_text(encoding="utf-8") == notice(bundle.manifest)
    assert inspect(bundle.path).uses == entry.uses()
    card = (bundle.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| product | yes |" in card
    assert "stored at the precision fp16" in card


def test_a_bundle_of_before_opens(exports: Exports, tmp_path: Path) -> None:
    copy = exports.copy("onnx", "fp16", tmp_path)
    shutil.rmtree(copy / "LICENSES")
    with edited_json(copy / "manifest.json") as told:
        del told["licence"]
    assert Bundle.open(copy).manifest.licence is None
    assert inspect(copy).uses is None


def test_the_sentence_stands_in_the_notice_and_a_missing_text_is_called_missing(exports: Exports) -> None:
    told = notice(of_apple(exports))
    assert AMLR.sentence is not None
    assert AMLR.sentence in told.splitlines()
    assert "NOT in this bundle" in told
    assert "Branches and normalization layers that only training needs were folded" in told


@pytest.mark.parametrize("suffix", ["", ".txt"])
def test_a_text_that_came_with_the_weights_is_copied_and_compared(
    exports: Exports, tmp_path: Path, suffix: str
) -> None:
    own = tmp_path / f"LICENSE_MODELS{suffix}"
    own.write_bytes(b"An agreement\r\n")
    (tmp_path / "bundle").mkdir()
    entry = write_licences(tmp_path / "bundle", of_apple(exports), own)
    assert {file.sha256 for file in entry.files} >= {hashlib.sha256(own.read_bytes()).hexdigest()}
    told = (tmp_path / "bundle/LICENSES/NOTICE.txt").read_text(encoding="utf-8")
    assert "differs from the text that this version" in told
    assert "differs from the text that this version" not in notice(of_apple(exports), AMLR.read[0])


def test_what_changed_is_told_of_smaller_embeddings(exports: Exports) -> None:
    manifest = exports.bundle("onnx", "fp16").manifest
    compacted = Compacted(
        size=16, full_size=128, from_space="x", axes_sha256="0" * 64, fit="mean", pictures=64, captions=1,
        own_captions=False, fitted_sha256="0" * 64, logit_scale=1, full_logit_scale=1, int8_scale=1, clipped=0,
    )  # fmt: skip
    checkpoint = manifest.checkpoint.model_copy(update={"compacted": compacted})
    told = changes_made(manifest.model_copy(update={"checkpoint": checkpoint}))
    assert any("from 128 to 16 dimensions" in one for one in told)


@pytest.mark.parametrize("name", ["mobileclip_s0", "mobileclip2_s0", "clip_vit_b32", "dfn_vit_b16"])
def test_what_is_no_clear_yes_is_refused_with_its_words_and_relatives(name: str) -> None:
    with pytest.raises(UsageError, match=r"not a clear 'yes'.*https://.*tinyclip_8m_16") as refused:
        require_product(load_variant(name))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["nano", "tinyclip_8m_16", "clip_vit_b32_laion"])
def test_a_clear_yes_passes(name: str) -> None:
    require_product(load_variant(name))


def test_an_export_for_a_product_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = load_model()
    apple = load_variant("mobileclip2_s0").licence
    object.__setattr__(model, "variant", model.variant.model_copy(update={"licence": apple}))
    with pytest.raises(UsageError, match="for_product"):
        export(model, "onnx", "fp32", tmp_path / "out", for_product=True)
    words = ("--target", "onnx", "--for-product", "-o", tmp_path / "out", "--checkpoint", "hf:apple/MobileCLIP-S0")
    done = run("export", *words)  # from the card of the repository, before a download
    assert "not a clear 'yes'" in refusal(done)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["absent", "empty", "large"])
def test_what_is_no_licence_text_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "LICENSE"
    if what != "absent":
        path.write_bytes(b"" if what == "empty" else bytes((1 << 20) + 1))
    with pytest.raises(UsageError, match="licence_text"):
        export(load_model(), "onnx", "fp32", tmp_path / "out", licence_text=path)


def test_a_changed_text_is_seen_when_the_bundle_is_opened(exports: Exports, tmp_path: Path) -> None:
    copy = exports.copy("onnx", "fp16", tmp_path)
    path = copy / "LICENSES/CC-BY-SA-4.0.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("ShareAlike", "NonCommercial"), encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"CC-BY-SA-4.0.txt is not the file that was exported"):
        Bundle.open(copy)
