"""SigLIP2's vocabulary stands beside its checkpoint or in it and can be cut, and its scores are sigmoids."""

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from command_line import run
from json_files import edited_json
from pieces import PHRASES, texts, tokenizer_json
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import PIECES, known

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import CheckpointError, InvalidInput, UsageError
from mobileclip_deploy.network import samples
from mobileclip_deploy.network.checkpoints.convert import convert
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.spaces.compacting import check_size

pytestmark = pytest.mark.slow  # test_transformers.py and golden/ open the others

SIZE = 900
PROMPTS = [*texts("de", 3), *texts("ja", 3), "", "a very long prompt " * 40]


def test_without_its_tokenizer_pictures_are_embedded_and_texts_refused(tmp_path: Path) -> None:
    with known(tmp_path, PIECES) as path:
        model = mcd.load_model(PIECES, path)
        assert model.variant.tokens.vocab_size == SIZE
        assert mcd.tokenize(["a cat"], model).shape == (1, 16)
        beside = path.with_name("tokenizer.json")
        beside.write_text(tokenizer_json(SIZE)[:-5], encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer\.json"):
            mcd.load_model(PIECES, path)
        beside.unlink()
        bare = mcd.load_model(PIECES, path)
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert torch.equal(bare.encode_image(pixels), model.encode_image(pixels))
        with pytest.raises(InvalidInput, match=r"no tokenizer\.json beside its file"):
            mcd.tokenize(["a cat"], bare)


def test_a_copy_keeps_its_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with known(tmp_path / "source", PIECES) as path:
        convert(path, "folded", tmp_path / "folded.safetensors")
        convert(path, "open_clip", tmp_path / "again.safetensors")
        model = mcd.load_model(PIECES, path)
        for name in ("folded", "again"):
            copied = mcd.load_model(PIECES, tmp_path / f"{name}.safetensors")
            assert copied.variant.tokens == model.variant.tokens
            ids = torch.from_numpy(mcd.tokenize(PROMPTS, model))
            assert torch.allclose(copied.encode_text(ids), model.encode_text(ids), rtol=1e-5, atol=1e-6)
            assert copied.scores == model.scores


@pytest.fixture(scope="module")
def language_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """German as plain texts, Japanese as CLDR has its names."""
    folder = tmp_path_factory.mktemp("languages")
    plain = [" ".join(text.split()) for text in texts("de", 200)]
    (folder / "de.txt").write_text("\n".join(plain), encoding="utf-8")
    names = {"😀": {"default": texts("ja", 60), "tts": texts("ja", 1)}}
    (folder / "ja").mkdir()
    (folder / "ja" / "annotations.json").write_text(json.dumps({"annotations": {"annotations": names}}))
    (folder / "captions.txt").write_text("\n".join([*plain[:20], PHRASES["ru"][0]]), encoding="utf-8")
    return folder


@pytest.mark.parametrize("keep", ["letters", "used"])
def test_a_vocabulary_is_cut_to_languages(
    tmp_path: Path, language_texts: Path, keep: Literal["letters", "used"]
) -> None:
    """Embeddings of their texts stay the same, in the same space, and a user's captions tell what they lose."""
    (tmp_path / "source").mkdir()
    with known(tmp_path / "source", PIECES) as path:
        full = mcd.load_model(PIECES, path)
        small = tmp_path / "small.safetensors"
        asked = mcd.Languages(["de", "ja"], language_texts, keep, language_texts / "captions.txt")
        written = mcd.convert(path, "open_clip", small, languages=asked)
        cut = mcd.load_model(PIECES, small)
        assert cut.variant.tokens.vocab_size < full.variant.tokens.vocab_size - 200
        assert f"vocabulary: {cut.variant.tokens.vocab_size:,} of 900 pieces" in written.notes[-1]
        assert "0.00%" not in written.notes[-1]  # the Russian caption
        same = [*texts("de", 150), *texts("ja", 60)]
        for part in (same[:100], same[100:]):
            ours, theirs = (torch.from_numpy(mcd.tokenize(part, model)) for model in (cut, full))
            assert torch.equal(cut.encode_text(ours), full.encode_text(theirs))
        assert cut.provenance.embedding_space == full.provenance.embedding_space
        assert (cut.provenance.distilled.languages, cut.provenance.distilled.cut_from) == (("de", "ja"), 900)


def test_a_cut_vocabulary_that_is_shifted_by_one_is_refused(tmp_path: Path, language_texts: Path) -> None:
    (tmp_path / "source").mkdir()
    with known(tmp_path / "source", PIECES) as path:
        small = tmp_path / "small.safetensors"
        mcd.convert(path, "open_clip", small, languages=mcd.Languages(["de"], language_texts))
        tensors, metadata = load_file(small), dict(safe_open(small, "pt").metadata())
        told = json.loads(metadata["tokenizer.json"])
        vocabulary = sorted(told["model"]["vocab"].items(), key=lambda item: item[1])
        moved = [vocabulary[0], *vocabulary[2:], vocabulary[1]]
        told["model"]["vocab"] = {piece: id for id, (piece, _) in enumerate(moved)}
        save_file(tensors, small, metadata | {"tokenizer.json": json.dumps(told)})
        with pytest.raises(CheckpointError, match="damaged vocabulary in its metadata"):
            mcd.load_model(PIECES, small)


def test_what_cannot_be_cut_is_refused(tmp_path: Path, language_texts: Path) -> None:
    out = tmp_path / "out.safetensors"
    nano = mcd.load_model().provenance
    assert nano is not None
    with pytest.raises(UsageError, match="has a vocabulary of CLIP's kind"):
        mcd.convert(builtin_checkpoint(), "apple", out, languages=mcd.Languages(["de"], language_texts))
    with pytest.raises(UsageError, match="`keep` takes 'letters' or 'used'"):
        mcd.Languages(["de"], language_texts, "all")  # type: ignore[arg-type]
    bare = run("convert", builtin_checkpoint(), "--layout", "apple", "--languages", "de", "-o", out)
    assert (bare.code, "--languages needs --language-texts" in bare.stderr) == (2, True), bare.stderr
    with known(tmp_path, PIECES) as path:
        with pytest.raises(InvalidInput, match="has no texts of fr"):
            mcd.convert(path, "open_clip", out, languages=mcd.Languages(["fr"], language_texts))
        with pytest.raises(UsageError, match="cut it first, then fold"):
            mcd.convert(path, "folded", out, languages=mcd.Languages(["de"], language_texts))
    assert not out.exists()


def test_sigmoid_scores_of_a_bundle_and_of_its_checkpoint(tmp_path: Path) -> None:
    """`classify` gives each label a probability of its own, and a manifest without its bias is told."""
    (tmp_path / "source").mkdir()
    labels, images = ["a cat", "eine Katze", "雪の山"], samples.image_paths()[:2]
    with known(tmp_path / "source", PIECES) as path:
        model = mcd.load_model(PIECES, path)
        found = mcd.classify(model, images, labels=labels)
        sums = [sum(row.probabilities.values()) for row in found]
        assert all(abs(one - 1) > 1e-3 for one in sums)
        with pytest.raises(UsageError, match="scores each label independently"):
            mcd.export(model, "onnx", None, tmp_path / "labelled", tower="image", labels=labels)
        with pytest.raises(UsageError, match="has sigmoid scores with a bias"):
            check_size(8, model.variant, model.towers)
        bundle = mcd.export(model, "onnx", "fp32", tmp_path / "out")
        assert bundle.manifest.logit_bias == model.scores.bias == -10
        again = mcd.classify(bundle, images, labels=labels)
        for own, other in zip(found, again, strict=True):
            assert own.probabilities == pytest.approx(other.probabilities, rel=1e-4)
        with edited_json(bundle.path / "manifest.json") as told:
            del told["logit_bias"]
        report = mcd.verify(bundle.path, checkpoint=path, thorough=False)
        failed = [check.describe() for check in report.checks if check.status == "failed"]
        assert any("logit_bias" in told for told in failed), failed
