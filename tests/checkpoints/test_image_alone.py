"""Variants without a text tower: FastViT's classifiers, FastVLM's encoder, and what asks them for texts.

Values are compared with one block a stage: all blocks are of one kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from command_line import run
from golden_checkpoints import fill, relative_errors
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform
from timm.layers import LayerNorm2d
from timm.models import fastvit
from timm.utils import reparameterize_model
from tiny import checkpoint
from unfilled import Unfilled

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network import samples
from mobileclip_deploy.network.checkpoints.fitting import fitting
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.checkpoints.open_clip import canonical_names
from mobileclip_deploy.network.inputs import normalize
from mobileclip_deploy.network.model.open_clip_files import class_names
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.variants import load_variant, variant_names

CLASSIFIERS = [name for name in variant_names() if name.startswith("fastvit_")]
IMAGES = samples.image_paths()[:2]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_cards_say_what_timm_builds_and_prepares(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastvit, "_create_fastvit", lambda name, pretrained, **arguments: arguments)
    built, card = getattr(fastvit, name)(), load_variant(name)
    said = {"layers": card.image.depths, "embed_dims": card.image.widths, "mlp_ratios": card.image.mlp_ratios}
    assert {key: built.pop(key) for key in said} == said
    assert built.pop("token_mixers") == card.image.mixers
    assert [position is not None for position in built.pop("pos_embs", (None,) * 4)] == [*card.image.positional]
    assert built == {}
    published = [timm.get_pretrained_cfg(f"{name}.{tag}") for tag in ("apple_dist_in1k", "apple_in1k")]
    assert [one.hf_hub_id for one in published] == [source.repository for source in card.sources]
    spec = card.preprocess
    for one in published:
        assert (one.input_size, one.crop_pct, one.crop_mode) == (
            (3, spec.size, spec.size),
            spec.crop_fraction,
            "center",
        )
        assert (one.interpolation, one.mean, one.std) == (spec.interpolation, spec.mean, spec.std)


def test_classifiers_names_and_shapes_are_timm_s() -> None:
    with torch.device("meta"), Unfilled():
        theirs = timm.create_model("fastvit_t8").state_dict()
    shapes = {ours: tuple(theirs[key].shape) for ours, key in canonical_names(theirs).items()}
    assert [one.variant.name for one in fitting("open_clip", shapes)] == ["fastvit_t8"]
    assert set(CLASSIFIERS) == {name for name in timm.list_models("fastvit_*") if "mci" not in name}


@torch.no_grad()
def test_pixels_and_answers_are_timm_s(tmp_path: Path) -> None:
    theirs = fastvit.FastVit(
        layers=(1, 1, 1, 1),
        embed_dims=(16, 32, 32, 64),
        mlp_ratios=(2, 2, 2, 2),
        downsamples=(False, True, True, True),
        token_mixers=("repmixer", "repmixer", "repmixer", "attention"),
        pos_embs=(None, None, None, partial(fastvit.RepConditionalPosEnc, spatial_shape=(7, 7))),
    ).eval()
    weights = checkpoint("tiny_classes", "open_clip")
    del weights["logit_scale"]
    theirs.load_state_dict(weights)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    ours = load(tmp_path / "model.safetensors")
    assert (ours.variant.name, ours.towers) == ("tiny_classes", ("image",))
    assert ours.provenance.notes == ()

    spec = ours.variant.preprocess
    transform = create_transform((3, 64, 64), crop_pct=0.9, interpolation="bicubic", mean=spec.mean, std=spec.std)
    pixels = torch.stack([transform(Image.open(path).convert("RGB")) for path in IMAGES])
    own = normalize(torch.from_numpy(load_batch(IMAGES, spec)), spec)
    assert torch.equal(own, pixels)
    assert relative_errors(ours.encode_image(own), theirs(pixels)) <= 1e-5


def test_every_class_has_a_name_of_its_own() -> None:
    names = class_names("imagenet_1k")
    assert len(set(names)) == len(names) == 1000
    assert (names[0], names[281], names[657], names[744], names[999]) == (
        "tench",
        "tabby cat",
        "missile",
        "projectile",
        "toilet paper",
    )


@pytest.fixture
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("alone") / "model.safetensors"
    save_file(checkpoint("tiny_classes", "open_clip"), path)
    return path


@pytest.mark.slow  # towers/test_classifier.py
def test_it_is_exported_as_a_classifier_of_its_classes(weights: Path, tmp_path: Path) -> None:
    model = mcd.load_model(checkpoint=weights)
    bundle = mcd.export(model, "onnx", "fp32", tmp_path)
    assert bundle.path.name == "tiny_classes-onnx-fp32-classifier"
    names = class_names("imagenet_1k")
    assert json.loads((bundle.path / "onnx" / "labels.json").read_text()) == list(names)
    manifest = bundle.manifest
    assert (manifest.classifier.labels, manifest.classifier.template) == (names, None)  # type: ignore[union-attr]
    assert (manifest.tokenizer, manifest.preprocess.crop_fraction) == (None, 0.9)
    assert not (bundle.path / "tokenizer").exists()
    config = json.loads((bundle.path / "preprocessor_config.json").read_text())
    assert (config["size"], config["crop_size"]) == ({"shortest_edge": 71}, {"height": 64, "width": 64})
    assert (
        "shorter side to 71 (bicubic, antialiased), 64 x 64 from the centre"
        in (bundle.path / "MODEL_CARD.md").read_text()
    )
    assert mcd.verify(bundle, checkpoint=weights, thorough=False).passed

    own, found = mcd.classify(mcd.load_model(checkpoint=weights), IMAGES), mcd.classify(bundle, IMAGES)
    for one, other in zip(own, found, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert sum(one.probabilities.values()) == pytest.approx(1)

    for place, label in enumerate((found[0].label, "tench")):  # the first is right, the second one is not
        folder = tmp_path / "data" / label.replace(" ", "_")
        folder.mkdir(parents=True)
        (folder / IMAGES[place].name).write_bytes(IMAGES[place].read_bytes())
    (tmp_path / "data" / "toilet_paper").mkdir()
    (tmp_path / "data" / "toilet_paper" / "1.jpg").write_bytes(IMAGES[1].read_bytes())
    result = mcd.evaluate(bundle, dataset=tmp_path / "data")
    assert (result.classes, result.templates) == (3, ())
    nearest = max(("tench", "toilet paper", found[0].label), key=lambda name: found[1].probabilities[name])
    right = 1 + (nearest in ("tench", "toilet paper"))
    assert result.figures["top1"].value == pytest.approx(100 * right / 3)

    for subject, name in ((bundle, bundle.path.name), (mcd.load_model(checkpoint=weights), "tiny_classes")):
        _refused(
            partial(mcd.embed, subject, IMAGES, tmp_path / "out.npy"),
            f"{name} is a classifier of 1000 labels and has no embeddings; use `classify`",
        )
    for asked in (
        lambda: mcd.load_runner(bundle, "text"),
        lambda: mcd.tokenize("a", bundle),
        lambda: mcd.embed(bundle, _texts(tmp_path), tmp_path / "out.npy"),
        lambda: mcd.verify(bundle, checkpoint=weights, prompts=_texts(tmp_path)),
        lambda: mcd.write_demo(bundle, tmp_path / "page"),
    ):
        _refused(asked, "tiny_classes has no text tower")
    with pytest.raises(InvalidInput, match="the classifier has no label 'cat'"):
        (tmp_path / "data" / "cat").mkdir()
        (tmp_path / "data" / "cat" / "1.jpg").write_bytes(IMAGES[1].read_bytes())
        mcd.evaluate(bundle, dataset=tmp_path / "data")


def _texts(folder: Path) -> Path:
    (folder / "texts.txt").write_text("a cat\n")
    return folder / "texts.txt"


def _refused(asked: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        asked()
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"labels": "cat,dog"}, "has the 1000 classes that it was trained on; leave `labels` out"),
        ({"normalise": True}, "has the 1000 classes that it was trained on; leave `normalise` out"),
        ({"tower": "text"}, "has no text tower"),
        ({"layout": "immich"}, "outputs probabilities, but the layout immich needs embeddings"),
        ({"precision": "smallest"}, "is a classifier, but `precision='smallest'` searches towers; name one"),
    ],
)
def test_what_it_cannot_be_exported_as(weights: Path, tmp_path: Path, choices: dict[str, Any], words: str) -> None:
    target = {} if "layout" in choices else {"target": "onnx"}
    model = mcd.load_model(checkpoint=weights)
    _refused(lambda: mcd.export(model, output=tmp_path, **target, **choices), f"tiny_classes {words}")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_it_refuses_texts(weights: Path) -> None:
    model = mcd.load_model(checkpoint=weights)
    for asked in (
        lambda: model.encode_text(torch.zeros(1, 8, dtype=torch.long)),
        lambda: mcd.load_runner(model, "text"),
        lambda: mcd.tokenize("a", model),
    ):
        _refused(asked, "tiny_classes has no text tower")
    runner = mcd.load_runner(model, "image")
    assert runner(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 1000)


def test_a_vocabulary_that_is_not_clip_s_is_refused_in_one_line(tmp_path: Path) -> None:
    save_file(checkpoint("tiny_plain", "open_clip"), tmp_path / "tiny_plain.safetensors")
    weights = tmp_path / "tiny_plain.safetensors"
    found = run("export", "--target", "onnx", "--checkpoint", weights, "-o", tmp_path / "out")
    why = (
        "the text tower has a vocabulary of 92 tokens, and texts are encoded by CLIP's, with ids up to 49407: a text "
        "tower with a tokenizer of its own cannot be used"
    )
    assert (found.code, found.stdout, found.stderr.splitlines()[-1]) == (2, "", f"error: {why}")
    with pytest.raises(InvalidInput, match=why):
        mcd.classify(mcd.load_model(checkpoint=weights), IMAGES, ["cat", "dog"])


@torch.no_grad()
def published_fastvlm(path: Path) -> Any:
    """A checkpoint in the form of FastVLM's, written from timm's network, and that network as it was before."""
    position = partial(fastvit.RepConditionalPosEnc, spatial_shape=(7, 7))
    theirs = fastvit.FastVit(
        layers=(1,) * 5,
        embed_dims=(16, 16, 32, 32, 64),
        mlp_ratios=(2,) * 5,
        downsamples=(False, *(True,) * 4),
        se_downsamples=(False,) * 5,
        token_mixers=(*("repmixer",) * 3, *("attention",) * 2),
        pos_embs=(None, None, None, position, position),
        norm_layer=partial(LayerNorm2d, eps=1e-5),
        lkc_use_act=True,
        stem_use_scale_branch=False,
        num_classes=24,
    ).eval()
    theirs.load_state_dict({key: fill(3, key, tuple(value.shape)) for key, value in theirs.state_dict().items()})
    tensors = {"model.layers.0.mlp.up_proj.weight": torch.zeros(4, 4), "model.mm_projector.0.bias": torch.zeros(4)}
    for key, value in reparameterize_model(theirs).state_dict().items():
        tensors[f"model.vision_tower.vision_tower.model.{apple_name(key)}"] = value.to(torch.float16)
    # The network that stands in the file, not the one before its numbers were rounded.
    rounded = reparameterize_model(theirs)
    rounded.load_state_dict({key: value.half().float() for key, value in rounded.state_dict().items()})
    save_file(tensors, path)
    return rounded.eval()


def apple_name(key: str) -> str:
    """What apple/ml-fastvlm calls a tensor of timm's reparameterized FastVit: mci.py numbers parts in one list."""
    stages = {"0": 0, "1": 2, "2": 4, "3": 7, "4": 10}
    names = (
        (r"^stem\.", "patch_embed."),
        (r"^final_conv\.se\.fc1\.", "conv_exp.se.reduce."),
        (r"^final_conv\.se\.fc2\.", "conv_exp.se.expand."),
        (r"^final_conv\.", "conv_exp."),
        (r"^stages\.(\d)\.blocks\.", lambda found: f"network.{stages[found[1]]}."),
        (
            r"^stages\.(\d)\.downsample\.proj\.0\.reparam_conv\.",
            lambda found: f"network.{2 * int(found[1]) - 1 + (found[1] == '4')}.proj.0.lkb_reparam.",
        ),
        (
            r"^stages\.(\d)\.downsample\.",
            lambda found: f"network.{2 * int(found[1]) - 1 + (found[1] == '4')}.",
        ),
        (r"^stages\.(\d)\.pos_emb\.", lambda found: f"network.{stages[found[1]] - 1}."),
        (r"\.mlp\.", ".convffn."),
        (r"\.gamma$", ""),
    )
    for pattern, name in names:
        key = re.sub(pattern, name, key)
    return key


@pytest.mark.slow  # of classes, above
@torch.no_grad()
def test_fastvlm_s_tower_gives_the_tokens_of_timm_s_network(tmp_path: Path) -> None:
    """All names and values of Apple's own code agreed too, at full depth: docs/figures/variants.md."""
    theirs = published_fastvlm(tmp_path / "model.safetensors")
    ours = load(tmp_path / "model.safetensors")
    assert (ours.variant.name, ours.towers, ours.variant.answer_shape) == ("tiny_tokens", ("image",), (4, 128))
    assert ours.provenance.layout == "llava"
    assert ours.provenance.notes == ("the language model, its projector and the tower's unused head are left out",)
    pixels = torch.from_numpy(load_batch(IMAGES, ours.variant.preprocess))
    wanted = theirs.forward_features(pixels).reshape(2, 128, 4).transpose(1, 2)
    assert relative_errors(ours.encode_image(pixels), wanted) <= 1e-5

    bundle = mcd.export(ours, "onnx", "fp16", tmp_path / "out")
    assert bundle.manifest.towers["image"].output.shape == (0, 4, 128)
    assert mcd.verify(bundle, checkpoint=tmp_path / "model.safetensors", thorough=False).passed
    found = mcd.load_runner(bundle, "image")(pixels.numpy())
    assert relative_errors(torch.from_numpy(found), wanted) <= 5e-3
    _refused(
        lambda: mcd.export(ours, "onnx", "fp16", tmp_path / "out", normalise=True),
        "tiny_tokens outputs tokens, which are not normalised; leave `normalise` out",
    )
    _refused(
        lambda: mcd.embed(bundle, IMAGES, tmp_path / "tokens.npy"),
        "tiny_tokens outputs tokens [4, 128] of an image, not one embedding; run it with load_runner",
    )


def test_fastvithd_is_mobileclip_s3_s_tower_before_pooling() -> None:
    card, s3 = load_variant("fastvithd"), load_variant("mobileclip_s3")
    assert card.image == s3.image.model_copy(update={"pooled": False, "projection_bias": False})
    assert (card.preprocess.size, card.answer_shape) == (1024, (256, 3072))


def test_timms_own_image_tower_is_that_of_a_variant(tmp_path: Path) -> None:
    theirs = timm.create_model("fastvit_mci0.apple_mclip", pretrained=False).eval()
    filled = {key: fill(1, key, tuple(value.shape)) for key, value in theirs.state_dict().items()}
    theirs.load_state_dict(filled)
    save_file(filled, path := tmp_path / "timm.safetensors")
    ours = mcd.load_model(None, path)
    assert (ours.variant.name, ours.towers) == ("mobileclip2_s0", ("image",))
    pixels = torch.rand(1, *ours.variant.image_input_shape)
    with torch.no_grad():
        assert relative_errors(ours.encode_image(pixels), theirs(pixels)) < 1e-5
