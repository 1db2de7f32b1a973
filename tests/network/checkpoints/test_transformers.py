"""A CLIPModel or a SiglipModel of transformers loads from its folder, and answers as transformers does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run
from golden_checkpoints import fill, golden_images, relative_errors
from pieces import PHRASES, texts, tokenizer_json
from safetensors.torch import load_file, save_file
from tiny import PIECES, known, tiny_variant
from unfilled import Unfilled

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.network.checkpoints.convert import convert
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.model.variants import Variant, load_variant

transformers = pytest.importorskip("transformers", reason="pip install 'mobileclip-deploy[litert]'")

NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}


def tower(spec: Any) -> dict[str, Any]:
    """A tower as a configuration of transformers describes it."""
    return {
        "hidden_size": spec.width,
        "intermediate_size": int(spec.width * spec.mlp_ratio),
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.heads,
        "hidden_act": NAMES[spec.activation],
    }


def saved(folder: Path, name: str = "tiny_plain") -> Any:
    """transformers' own network of the variant's shape, with weights from a seed, saved as it saves."""
    card = tiny_variant(name)
    tokens, image = card.tokens, card.image
    assert image.kind == "vit"
    words = {"vocab_size": tokens.vocab_size, "max_position_embeddings": tokens.context_length}
    words |= {"eos_token_id": tokens.eot, "bos_token_id": tokens.sot, "pad_token_id": tokens.pad}
    pixels = {"image_size": card.preprocess.size, "patch_size": image.patch}
    shared = {"attention_dropout": 0.0, "projection_dim": card.embed_dim}
    towers = {"text_config": tower(card.text) | words | shared, "vision_config": tower(image) | pixels | shared}
    config = transformers.CLIPConfig(projection_dim=card.embed_dim, **towers)
    torch.manual_seed(3)
    model = transformers.CLIPModel(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def compared(theirs: Any, ours: mcd.MobileCLIP, ids: torch.Tensor, images: torch.Tensor) -> Any:
    """What transformers answers, which ours are found to answer too."""
    with torch.no_grad():
        found = theirs(input_ids=ids, pixel_values=images)
        pairs = (ours.encode_image(images), found.image_embeds), (ours.encode_text(ids), found.text_embeds)
    for own, wanted in pairs:
        own = torch.nn.functional.normalize(own)
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-6)
        assert relative_errors(own, wanted) <= 1e-5
    return found


@pytest.mark.parametrize("name", ["tiny_plain", "tiny_quick"])
def test_it_answers_as_transformers_does(tmp_path: Path, name: str) -> None:
    theirs = saved(tmp_path / "clip", name)
    ours = load(tmp_path / "clip")
    assert ours.variant.name == name  # which the activation in config.json decides
    size, tokens = ours.variant.preprocess.size, ours.variant.tokens
    images = torch.rand(2, 3, size, size)
    ids = torch.tensor([[tokens.sot, 5, 7, tokens.eot, 0, 0, 0, 0], [tokens.sot, 9, tokens.eot, 0, 0, 0, 0, 0]])
    compared(theirs, ours, ids, images)
    assert ours.logit_factor == pytest.approx(float(theirs.logit_scale.detach().exp()))


def test_pictures_are_those_of_its_processor(tmp_path: Path) -> None:
    saved(tmp_path)
    processor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    found = load(tmp_path)
    assert (found.variant.preprocess.mean, found.variant.preprocess.interpolation) == ((0.5,) * 3, "bicubic")
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
    with pytest.raises(CheckpointError, match=r"layers\.0\.self_attn\.[qv]_proj\.weight lacks its k; save"):
        load(tmp_path / "half.safetensors", "tiny_plain")


def siglip(card: Variant, folder: Path) -> Any:
    """transformers' SiglipModel of a card, saved with golden-style weights and a tokenizer.json."""
    definition = card.for_layout("transformers")
    image, text = definition.image, definition.text
    assert image.kind == "vit"
    size, length = len(json.loads(tokenizer_json())["model"]["vocab"]), definition.context_length
    words = {"vocab_size": size, "max_position_embeddings": length, "projection_size": card.embed_dim}
    pixels = {"image_size": card.preprocess.size, "patch_size": image.patch}
    config = transformers.SiglipConfig(text_config=tower(text) | words, vision_config=tower(image) | pixels)
    with Unfilled():
        model = transformers.SiglipModel(config).eval()
    model.load_state_dict({key: fill(3, key, tuple(value.shape)) for key, value in model.state_dict().items()})
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(), encoding="utf-8")
    return model


def tokens_of_transformers(folder: Path, sentences: list[str], length: int) -> torch.Tensor:
    """Ids by transformers' own tokenizer, with the padding and the end that Google's tokenizer_config.json has."""
    told = {"padding_side": "right", "pad_token": "<pad>", "eos_token": "<eos>"}
    tokenizer = transformers.Siglip2Tokenizer(tokenizer_file=str(folder / "tokenizer.json"), **told)
    rows = tokenizer(sentences, add_special_tokens=False, truncation=True, max_length=length - 1)["input_ids"]
    return torch.tensor([[*row, 1, *([0] * (length - 1 - len(row)))] for row in rows])


def test_a_siglip_model_answers_as_transformers_does(tmp_path: Path) -> None:
    with known(tmp_path, PIECES):
        card = load_variant(PIECES)
        theirs = siglip(card, tmp_path / "siglip")
        ours = mcd.load_model(None, tmp_path / "siglip")
        assert ours.variant.name == PIECES
        assert ours.variant.image == card.for_layout("transformers").image != card.image  # another GELU
        sentences = [text for language in PHRASES for text in texts(language, 20)]
        ids = torch.from_numpy(mcd.tokenize(sentences, ours))
        assert torch.equal(ids, tokens_of_transformers(tmp_path / "siglip", sentences, 16))
        found = compared(theirs, ours, ids[:8], golden_images(3, 64))
        cosines = (found.image_embeds.double() @ found.text_embeds.double().T).numpy()
        wanted = found.logits_per_image.sigmoid()
        torch.testing.assert_close(torch.from_numpy(ours.scores.of(cosines)).float(), wanted, rtol=1e-4, atol=1e-7)


def test_pictures_of_a_siglip_model_are_those_of_its_processor(tmp_path: Path) -> None:
    with known(tmp_path, PIECES):
        siglip(load_variant(PIECES), tmp_path / "siglip")
        assert mcd.load_model(None, tmp_path / "siglip").variant.preprocess.interpolation == "bicubic"
        processor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
        (tmp_path / "siglip" / "preprocessor_config.json").write_text(json.dumps(processor))
        assert mcd.load_model(None, tmp_path / "siglip").variant.preprocess.interpolation == "bilinear"


def test_a_siglip_model_is_written_as_it_was_and_cut(tmp_path: Path) -> None:
    with known(tmp_path, PIECES):
        siglip(load_variant(PIECES), tmp_path / "siglip")
        file, again = tmp_path / "siglip" / "model.safetensors", tmp_path / "again.safetensors"
        convert(file, "transformers", again)
        before, after = load_file(file), load_file(again)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        with pytest.raises(CheckpointError, match=r"another network in the open_clip layout \(activation differ"):
            convert(file, "open_clip", tmp_path / "other.safetensors")
        (tmp_path / "de.txt").write_text("\n".join(PHRASES["de"]), encoding="utf-8")
        small = tmp_path / "small.safetensors"
        mcd.convert(file, "transformers", small, languages=mcd.Languages(["de"], tmp_path))
        cut, full = mcd.load_model(None, small), mcd.load_model(None, file)
        assert cut.variant.tokens.vocab_size < full.variant.tokens.vocab_size
        same = ["Eine Katze, auf dem Sofa.", *PHRASES["de"]]
        answers = [model.encode_text(torch.from_numpy(mcd.tokenize(same, model))) for model in (cut, full)]
        assert torch.equal(*answers)


def test_a_model_of_any_number_of_patches_is_refused(tmp_path: Path) -> None:
    with known(tmp_path, PIECES):
        siglip(load_variant(PIECES), tmp_path / "siglip")
        weights = load_file(tmp_path / "siglip" / "model.safetensors")
        kernel = "vision_model.embeddings.patch_embedding.weight"
        save_file(weights | {kernel: weights[kernel].flatten(1)}, tmp_path / "naflex.safetensors")
        with pytest.raises(CheckpointError, match=r"is a Siglip2Model, .*\(NaFlex\); give a SigLIP2"):
            mcd.load_model(None, tmp_path / "naflex.safetensors")
