"""open_clip's layout in all its forms: timm towers, OpenAI's names, training checkpoints, single towers, twins."""

from pathlib import Path

import pytest
import timm
import torch
from command_line import run
from golden_checkpoints import fill, relative_errors
from network.checkpoints.test_loading import refusal, write
from safetensors.torch import save_file
from tiny import TINY, checkpoint

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network import samples
from mobileclip_deploy.network.checkpoints import folded
from mobileclip_deploy.network.checkpoints.identity import identify
from mobileclip_deploy.network.checkpoints.loading import Origin, load
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.network.folding import fold

IMAGES = torch.linspace(0, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
NAMES = [name for name, card in TINY.items() if "open_clip" in card["layouts"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_tower_loads(tmp_path: Path, name: str) -> None:
    model = load(write(tmp_path / f"{name}.pt", checkpoint(name, "open_clip")))
    assert model.variant.name == name
    assert model.provenance.layout == "open_clip"
    assert model.encode_image(IMAGES).shape == (2, model.variant.embed_dim)


def test_plain_names_are_openais() -> None:
    keys = set(checkpoint("tiny_plain", "open_clip"))
    assert {
        "positional_embedding",
        "text_projection",
        "token_embedding.weight",
        "ln_final.weight",
        "transformer.resblocks.0.attn.in_proj_weight",
        "visual.class_embedding",
        "visual.conv1.weight",
        "visual.ln_pre.weight",
        "visual.ln_post.bias",
        "visual.proj",
        "visual.positional_embedding",
        "visual.transformer.resblocks.1.mlp.c_proj.bias",
    } <= keys
    assert not any(key.startswith("text.") for key in keys)


def test_plain_text_tower_may_stand_under_text(tmp_path: Path) -> None:
    weights = checkpoint("tiny_plain", "open_clip")
    custom = {key if key.startswith(("visual.", "logit")) else f"text.{key}": value for key, value in weights.items()}
    ids = torch.tensor([[90, 5, 91, 0, 0, 0, 0, 0]])
    plain = load(write(tmp_path / "tiny_plain.pt", weights)).encode_text(ids)
    assert torch.equal(load(write(tmp_path / "tiny_plain_custom.pt", custom)).encode_text(ids), plain)


def test_openais_extra_numbers_and_a_logit_scale_with_a_dimension_are_taken(tmp_path: Path) -> None:
    extra = {name: torch.tensor(7) for name in ("input_resolution", "context_length", "vocab_size")}
    path = write(tmp_path / "tiny_plain.pt", checkpoint("tiny_plain", "open_clip") | extra)
    assert load(path).variant.name == "tiny_plain"
    weights = checkpoint("tiny_five", "open_clip")
    weights["logit_scale"] = weights["logit_scale"].reshape(1)
    model = load(write(tmp_path / "a.pt", weights))
    assert model.logit_scale.shape == ()


def of_card(file: str, variant: str) -> str:
    """Note of a checkpoint whose preprocessing is its card's, since nothing else records one."""
    return (
        f"pictures as {variant}'s card says (mean 0, std 1, bilinear): {file} does not record its own; "
        "`preprocess` sets others"
    )


class TestTwins:
    """Variants that a file cannot tell apart."""

    def test_same_network_is_taken_with_a_note(self, tmp_path: Path) -> None:
        model = load(write(tmp_path / "a.pt", checkpoint("tiny_patch", "open_clip")))
        assert model.variant.name == "tiny_patch"
        assert model.provenance.notes == (
            "a.pt is taken for tiny_patch; tiny_twin is the same network: `variant` says which it is",
            of_card("a.pt", "tiny_patch"),
        )

    @pytest.mark.parametrize("place", ["tiny-twin.pt", "Tiny_Twin-finetuned.pt", "tiny_twin/best.pt"])
    def test_names_on_the_way_decide(self, tmp_path: Path, place: str) -> None:
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        model = load(write(path, checkpoint("tiny_patch", "open_clip")))
        assert model.variant.name == "tiny_twin"
        assert model.provenance.notes == (of_card(path.name, "tiny_twin"),)

    def test_the_option_or_a_repository_decides_and_no_name_within_a_word(self, tmp_path: Path) -> None:
        path = write(tmp_path / "tiny_patch.pt", checkpoint("tiny_patch", "open_clip"))
        assert load(path, "tiny_twin").variant.name == "tiny_twin"
        path = write(tmp_path / "model.pt", checkpoint("tiny_plain", "open_clip"))
        assert load(path, origin=Origin("someone/tiny_quick")).variant.name == "tiny_quick"
        path = write(tmp_path / "tiny_plainer.pt", checkpoint("tiny_plain", "open_clip"))
        assert "say which with `variant`" in refusal(path)

    def test_different_networks_are_not_guessed(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.pt", checkpoint("tiny_plain", "open_clip"))
        text = refusal(path)
        assert "tiny_quick (QuickGELU, 64 px), tiny_plain (GELU, 64 px), which" in text
        assert "those called -quickgelu and OpenAI's have QuickGELU; say which" in text
        assert mcd.inspect(path, "tiny_quick").as_dict()["variant"] == "tiny_quick"
        assert run("inspect", path, "--variant", "tiny_plain", "--json").json["variant"] == "tiny_plain"
        assert "which compute different things from the same keys" in text
        assert load(path, "tiny_quick").variant.name == "tiny_quick"


def backbone(name: str) -> dict[str, torch.Tensor]:
    """The image tower of a variant as timm names it."""
    weights = checkpoint(name, "open_clip").items()
    return {key.removeprefix("visual.trunk."): value for key, value in weights if key.startswith("visual.")}


class TestSingleTowers:
    """Checkpoints of one tower."""

    def test_image_alone(self, tmp_path: Path) -> None:
        weights = {k: v for k, v in checkpoint("tiny_five", "open_clip").items() if k.startswith("visual.")}
        model = load(write(tmp_path / "a.pt", weights), preprocess="card")
        assert model.towers == ("image",)
        assert model.text is None
        assert model.provenance.towers == ("image",)
        assert "the checkpoint has no text tower" in model.provenance.notes
        assert fold(model, IMAGES).batch_norms_after == 0

    def test_text_alone_is_asked_about(self, tmp_path: Path) -> None:
        weights = {k: v for k, v in checkpoint("tiny_five", "open_clip").items() if k.startswith("text.")}
        path = write(tmp_path / "a.pt", weights)
        assert "`variant`" in refusal(path)
        model = load(path, "tiny_five")
        assert model.towers == ("text",)
        assert model.image is None
        weights = {k: v for k, v in checkpoint("tiny_plain", "open_clip").items() if not k.startswith("visual.")}
        assert load(write(tmp_path / "a.pt", weights), "tiny_plain").towers == ("text",)

    @pytest.mark.parametrize("name", ["tiny_five", "tiny_stem", "tiny_patch"])
    def test_timm_backbone_with_the_projection_as_head(self, tmp_path: Path, name: str) -> None:
        assert load(write(tmp_path / "timm.pt", backbone(name)), name).towers == ("image",)

    def test_timm_backbone_with_a_classifier(self, tmp_path: Path) -> None:
        weights = backbone("tiny_five")
        weights["head.fc.weight"], weights["head.fc.bias"] = torch.ones(1000, 128), torch.ones(1000)
        text = refusal(write(tmp_path / "timm.pt", weights))
        assert "visual.trunk.head.fc.weight [1000, 128], wanted [24, 128]" in text


class TestConverted:
    """v1 checkpoints that were converted from Apple's layout have a projection bias of zero."""

    def test_a_note_where_the_networks_differ_and_twins_are_told_apart(self, tmp_path: Path) -> None:
        weights = checkpoint("tiny_stem", "open_clip")
        path = write(tmp_path / "a.pt", weights)
        assert identify(open_tensors(path)).variant.name == "tiny_later"
        weights["visual.trunk.head.bias"] = torch.zeros(24)
        converted = identify(open_tensors(write(path, weights)))
        assert converted.variant.name == "tiny_stem"
        (note,) = converted.notes
        assert "looks converted from Apple's layout (its projection bias is all zero)" in note
        assert "prefer Apple's own tiny_stem.pt" in note

    def test_none_for_a_trained_bias_and_where_the_networks_agree(self, tmp_path: Path) -> None:
        path = write(tmp_path / "tiny_stem.pt", checkpoint("tiny_stem", "open_clip"))
        assert identify(open_tensors(path)).notes == ()
        weights = checkpoint("tiny_both", "open_clip")
        weights["visual.trunk.head.fc.bias"] = torch.zeros(24)
        assert identify(open_tensors(write(tmp_path / "a.pt", weights))).notes == ()


class TestImageSize:
    """Fine-tuned at another size, or used at one."""

    @pytest.mark.parametrize("name", ["tiny_patch", "tiny_stem", "tiny_plain"])
    def test_position_table_is_resampled(self, tmp_path: Path, name: str) -> None:
        path = write(tmp_path / f"{name}.pt", checkpoint(name, "open_clip"))
        model = load(path, image_size=96)
        assert model.variant.image_input_shape == (3, 96, 96)
        assert model.encode_image(torch.rand(1, 3, 96, 96)).shape == (1, 24)
        assert model.provenance.image_size == 96
        assert any("resampled from 64 to 96 px (bicubic" in note for note in model.provenance.notes)

    def test_size_is_told_from_the_position_table_and_one_that_is_not_square_is_refused(self, tmp_path: Path) -> None:
        weights = checkpoint("tiny_patch", "open_clip")
        weights["visual.trunk.pos_embed"] = torch.randn(1, 1 + 36, 32)
        model = load(write(tmp_path / "tiny_patch.pt", weights))
        assert model.variant.preprocess.size == 96
        size = "image size 96 px; tiny_patch was published at 64"
        assert model.provenance.notes == (size, of_card("tiny_patch.pt", "tiny_patch"))
        assert torch.equal(model.image.positional_embedding, weights["visual.trunk.pos_embed"][0])  # type: ignore[union-attr]
        weights["visual.trunk.pos_embed"] = torch.randn(1, 18, 32)
        assert "visual.trunk.pos_embed [1, 18, 32], wanted [1, 17, 32]" in refusal(write(tmp_path / "a.pt", weights))

    def test_a_folded_copy_keeps_the_size_that_an_mci_takes_as_it_is_and_a_vit_resampled(self, tmp_path: Path) -> None:
        for name in ("tiny_patch", "tiny_five"):
            model = load(write(tmp_path / f"{name}.pt", checkpoint(name, "open_clip")), image_size=128)
            assert model.encode_image(torch.rand(1, 3, 128, 128)).shape == (1, 24)
            assert model.provenance.image_size == 128
            fold(model)
            folded.save(model, tmp_path / "folded.safetensors")
            again = load(tmp_path / "folded.safetensors")
            assert again.variant.preprocess.size == 128
            assert again.provenance == model.provenance
            assert load(tmp_path / "folded.safetensors", image_size=64).variant.preprocess.size == 64


def test_tinyclip_s_own_checkpoint(tmp_path: Path) -> None:
    """Its towers and temperature are in modules of their own, wrapped for distributed training."""
    modules = {"visual.": "_image_encoder", "logit_scale": "_logit_scale", "": "_text_encoder"}
    weights = {
        f"{next(module for start, module in modules.items() if key.startswith(start))}.module.{key}": value
        for key, value in checkpoint("tiny_plain", "open_clip").items()
    }
    assert {key.split(".")[0] for key in weights} == set(modules.values())
    model = load(write(tmp_path / "tiny.pt", {"state_dict": weights}), "tiny_plain")
    torch.testing.assert_close(
        model.state_dict(),
        load(write(tmp_path / "b.pt", checkpoint("tiny_plain", "open_clip")), "tiny_plain").state_dict(),
    )


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
        mcd.classify(mcd.load_model(checkpoint=weights), samples.image_paths()[:2], ["cat", "dog"])
