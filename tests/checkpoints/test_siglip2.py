"""SigLIP2 with filled weights answers as open_clip's code does, and each of its parts matters."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import pytest
import torch
from command_line import run
from golden_checkpoints import fill, golden_images, relative_errors
from json_files import edited_json
from open_clip.model import CustomTextCLIP
from pieces import PHRASES, texts, tokenizer_json
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import PIECES, known
from torch import Tensor
from torch.nn import functional as F
from unfilled import Unfilled

import mobileclip_deploy as mcd
from mobileclip_deploy.checkpoints.convert import convert
from mobileclip_deploy.checkpoints.loading import Origin, load
from mobileclip_deploy.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.embeddings.compacting import check_size
from mobileclip_deploy.errors import CheckpointError, InvalidInput, UsageError
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.sentencepiece import reach, without
from mobileclip_deploy.model.tokenizer import encode
from mobileclip_deploy.towers import samples

MODELS = {"ViT-B-32-SigLIP2-256": "siglip2_b32_256", "ViT-B-16-SigLIP2-256": "siglip2_b16_256"}
SEED, BOUND, FLOOR = 7, 1e-5, 1e-13
SIZE = 900
PROMPTS = [*texts("de", 3), *texts("ja", 3), "", "a very long prompt " * 40]
VALUES = {"logit_bias": -11.5, "logit_scale": 4.72}  # exp(4.72) is 112: more than CLIP's bound of 100


@dataclass
class Pair:
    """One filled checkpoint, opened by open_clip and here. `path`: the file, with its tokenizer.json beside it."""

    theirs: Any
    ours: MobileCLIP
    name: str
    path: Path

    @property
    def ids(self) -> Tensor:
        return torch.from_numpy(encode(PROMPTS, self.ours.variant.tokens))

    def texts(self) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self.ours.encode_text(self.ids), self.theirs.encode_text(self.ids)

    def images(self) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            pixels = golden_images(SEED, 256)
            return self.ours.encode_image(pixels), self.theirs.encode_image(pixels)


def value(key: str, shape: tuple[int, ...]) -> Tensor:
    """The value of one of open_clip's tensors."""
    return torch.full(shape, VALUES[key]) if key in VALUES else fill(SEED, key, shape)


def opened(name: str, folder: Path) -> Pair:
    """Full depth and width; the vocabulary alone is small: it belongs to the checkpoint."""
    settings = copy.deepcopy(open_clip.get_model_config(name))
    settings["text_cfg"]["vocab_size"] = SIZE
    settings.pop("custom_text")
    with Unfilled():
        theirs = CustomTextCLIP(**settings).eval()
    weights = {key: value(key, tuple(tensor.shape)) for key, tensor in theirs.state_dict().items()}
    theirs.load_state_dict(weights)
    path = folder / "open_clip_model.safetensors"
    save_file(weights, path)
    (folder / "tokenizer.json").write_text(tokenizer_json(SIZE), encoding="utf-8")
    ours = load(path, origin=Origin(sha256="0" * 64))
    assert ours.variant.name == MODELS[name]
    return Pair(theirs, ours, name, path)


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return opened(request.param, tmp_path_factory.mktemp("weights"))


every = pytest.mark.parametrize("pair", MODELS, indirect=True)
smallest = pytest.mark.parametrize("pair", ["ViT-B-32-SigLIP2-256"], indirect=True)


@pytest.mark.whole
@every
def test_the_same_embeddings_and_scores(pair: Pair) -> None:
    ours, theirs = pair.images()
    assert relative_errors(ours, theirs) <= BOUND
    assert relative_errors(ours[:1], theirs[1:2]) > 1e-2  # not all the same
    words, their_words = pair.texts()
    assert relative_errors(words, their_words) <= BOUND
    theirs, their_words = F.normalize(theirs, dim=1).double(), F.normalize(their_words, dim=1).double()
    with torch.no_grad():
        wanted = torch.sigmoid(pair.theirs.logit_scale.exp() * theirs @ their_words.T + pair.theirs.logit_bias)
    found = pair.ours.scores.of((theirs @ their_words.T).numpy())
    assert np.allclose(found, wanted.numpy(), rtol=1e-6, atol=0)


@pytest.mark.whole
@smallest
def test_the_same_numbers_in_float64(tmp_path: Path, pair: Pair) -> None:
    doubled = Pair(copy.deepcopy(pair.theirs).double(), copy.deepcopy(pair.ours).double(), pair.name, pair.path)
    assert relative_errors(*doubled.texts()) <= FLOOR
    pixels = golden_images(SEED, 256).double()
    with torch.no_grad():
        ours, theirs = doubled.ours.encode_image(pixels), doubled.theirs.encode_image(pixels)
    assert relative_errors(ours, theirs) <= FLOOR


def _earlier_token(model: Any) -> None:
    model.text.positional_embedding.data = model.text.positional_embedding.data.roll(1, 0)


def _first_token(model: Any) -> None:
    model.text.pooling = "end_of_text"


def _exact_gelu(model: Any) -> None:
    for block in model.text.blocks:
        block.act = torch.nn.GELU()


def _no_bias(model: Any) -> None:
    model.text.projection.bias.data.zero_()


def _shifted_table(model: Any) -> None:
    model.text.token_embedding.weight.data = model.text.token_embedding.weight.data.roll(1, 0)


def _another_query(model: Any) -> None:
    model.image.pool.latent.data = model.image.pool.latent.data.roll(1)


def _keys_for_values(model: Any) -> None:
    for own in (model.image.pool.key_value.weight, model.image.pool.key_value.bias):
        own.data = own.data.roll(own.shape[0] // 2, 0)


def _first_patch(model: Any) -> None:
    model.image.pool = None


def _neighbour_s_place(model: Any) -> None:
    model.image.positional_embedding.data = model.image.positional_embedding.data.roll(1, 0)


FAULTS: dict[str, Callable[[Any], None]] = {
    "text: positions shifted by one": _earlier_token,
    "text: pooled at the largest id instead of at the last place": _first_token,
    "text: another form of GELU": _exact_gelu,
    "text: the projection's bias dropped": _no_bias,
    "text: a vocabulary shifted by one": _shifted_table,
    "image: the first patch instead of the pooled token": _first_patch,
    "image: another pooled query": _another_query,
    "image: keys and values of the pool swapped": _keys_for_values,
    "image: places shifted by one": _neighbour_s_place,
}


@pytest.mark.whole
@smallest
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_tower_is_seen(pair: Pair, fault: str) -> None:
    damaged = Pair(pair.theirs, copy.deepcopy(pair.ours), pair.name, pair.path)
    FAULTS[fault](damaged.ours)
    assert relative_errors(*(damaged.texts() if fault.startswith("text") else damaged.images())) > 10 * BOUND


@pytest.mark.whole
@smallest
def test_padding_on_the_other_side_is_seen(pair: Pair) -> None:
    moved = torch.stack([torch.cat((row[row == 0], row[row != 0])) for row in pair.ids])
    with torch.no_grad():
        assert relative_errors(pair.ours.encode_text(moved), pair.theirs.encode_text(pair.ids)) > 1e-2


@pytest.mark.whole
@smallest
def test_a_cut_vocabulary_gives_the_same_embeddings(pair: Pair) -> None:
    full = pair.ours.variant.tokens
    seen = texts("de", 100)
    rows = reach(full, set(encode(seen, full).ravel().tolist()))
    cut = without(full, rows)
    assert pair.ours.text is not None
    small = copy.deepcopy(pair.ours.text)
    small.token_embedding.weight = torch.nn.Parameter(small.token_embedding.weight[list(rows)])
    with torch.no_grad():
        found = small(torch.from_numpy(encode(seen[:20], cut)))
        assert torch.equal(found, pair.ours.encode_text(torch.from_numpy(encode(seen[:20], full))))


def test_without_its_tokenizer_pictures_are_embedded_and_texts_refused(tmp_path: Path) -> None:
    """A small network of the same kind."""
    with known(tmp_path, PIECES) as path:
        model = mcd.load_model(PIECES, path)
        assert model.variant.tokens.vocab_size == SIZE
        assert mcd.tokenize(["a cat"], model).shape == (1, 16)
        beside = path.with_name("tokenizer.json")
        beside.write_text(tokenizer_json(SIZE)[:-5], encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"tokenizer\.json: it is no tokenizer\.json"):
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
        with pytest.raises(UsageError, match="cut the vocabulary first"):
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
        with pytest.raises(UsageError, match="scores each label for itself"):
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
