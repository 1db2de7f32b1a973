"""A CLIPModel of transformers loads from its folder, and answers as transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run
from safetensors.torch import load_file, save_file
from tiny import tiny_variant

import mobileclip_deploy as mcd
from mobileclip_deploy.checkpoints.convert import convert
from mobileclip_deploy.checkpoints.loading import load
from mobileclip_deploy.errors import CheckpointError

transformers = pytest.importorskip("transformers", reason="pip install 'mobileclip-deploy[litert]'")


def saved(folder: Path, name: str = "tiny_plain", activation: str = "gelu") -> Any:
    """transformers' own network of the variant's shape, with weights from a seed, saved as it saves."""
    card = tiny_variant(name)
    assert card.text is not None
    assert card.tokenizer is not None
    text, tokens = card.text, card.tokenizer
    image: Any = card.image
    shared = {"hidden_act": activation, "attention_dropout": 0.0, "projection_dim": card.embed_dim}
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": tokens.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": int(text.width * text.mlp_ratio),
            "num_hidden_layers": text.depth,
            "num_attention_heads": text.heads,
            "max_position_embeddings": tokens.context_length,
            "eos_token_id": tokens.eot,
            "bos_token_id": tokens.sot,
            "pad_token_id": tokens.pad,
            **shared,
        },
        vision_config={
            "hidden_size": image.width,
            "intermediate_size": int(image.width * image.mlp_ratio),
            "num_hidden_layers": image.depth,
            "num_attention_heads": image.heads,
            "image_size": card.preprocess.size,
            "patch_size": image.patch,
            **shared,
        },
        projection_dim=card.embed_dim,
    )
    torch.manual_seed(3)
    model = transformers.CLIPModel(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(("name", "activation"), [("tiny_plain", "gelu"), ("tiny_quick", "quick_gelu")])
def test_it_answers_as_transformers_does(tmp_path: Path, name: str, activation: str) -> None:
    theirs = saved(tmp_path / "clip", name, activation)
    ours = load(tmp_path / "clip")
    assert ours.variant.name == name  # which the activation in config.json decides
    size, tokens = ours.variant.preprocess.size, ours.variant.tokens
    images = torch.rand(2, 3, size, size)
    ids = torch.tensor([[tokens.sot, 5, 7, tokens.eot, 0, 0, 0, 0], [tokens.sot, 9, tokens.eot, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        found = theirs(input_ids=ids, pixel_values=images)
        image, text = ours.encode_image(images), ours.encode_text(ids)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(image), found.image_embeds, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(unit(text), found.text_embeds, rtol=1e-5, atol=1e-6)
    assert ours.logit_factor == pytest.approx(float(theirs.logit_scale.detach().exp()))


def test_pictures_are_those_of_its_processor(tmp_path: Path) -> None:
    saved(tmp_path)
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    found = load(tmp_path)
    assert (found.variant.preprocess.mean, found.variant.preprocess.interpolation) == ((0.5,) * 3, "bicubic")
    assert found.provenance is not None
    assert "a CLIPModel of transformers, read by open_clip's names" in found.provenance.notes


def test_it_is_told_of_its_folder_and_goes_to_open_clip(tmp_path: Path) -> None:
    saved(tmp_path / "clip")
    assert run("inspect", tmp_path / "clip", "--json").json["variant"] == "tiny_plain"
    assert mcd.load_model(None, tmp_path / "clip").variant.name == "tiny_plain"
    file = tmp_path / "clip" / "model.safetensors"
    convert(file, "open_clip", tmp_path / "tiny_plain.safetensors")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(
            load(tmp_path / "tiny_plain.safetensors").encode_image(image), load(file).encode_image(image)
        )


def test_half_of_an_attention_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "clip")
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    weights.pop("text_model.encoder.layers.0.self_attn.k_proj.weight")
    save_file(weights, tmp_path / "half.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.0\.self_attn\.[qv]_proj\.weight comes without its k; save"):
        load(tmp_path / "half.safetensors", "tiny_plain")
