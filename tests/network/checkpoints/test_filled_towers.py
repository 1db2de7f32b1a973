"""PE-Core and SigLIP2 at full depth with filled weights answer as open_clip's code does."""

import copy
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from golden_checkpoints import fill, golden_images, relative_errors
from open_clip.model import CustomTextCLIP
from pieces import texts, tokenizer_json
from safetensors.torch import save_file
from unfilled import Unfilled

from mobileclip_deploy.network.checkpoints.fitting import fitting
from mobileclip_deploy.network.checkpoints.loading import Origin, load
from mobileclip_deploy.network.checkpoints.open_clip import canonical_names
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.tokenizer import encode

pytestmark = pytest.mark.slow

SEED, BOUND = 7, 1e-5
NAMES = {
    "pe_core_t16": "PE-Core-T-16-384",
    "pe_core_s16": "PE-Core-S-16-384",
    "pe_core_b16": "PE-Core-B-16",
    "siglip2_b32_256": "ViT-B-32-SigLIP2-256",
    "siglip2_b16_256": "ViT-B-16-SigLIP2-256",
}
PE_CORE, SIGLIP2 = ("pe_core_t16", "pe_core_s16"), ("siglip2_b32_256", "siglip2_b16_256")
VOCABULARY = 900
PROMPTS = [
    *texts("de", 6),
    *texts("ja", 3),
    "a photo of a dog",
    "un café, s'il vous plaît",
    "",
    "a very long prompt " * 60,
]


def network(variant: str) -> Any:
    """open_clip's. The vocabulary alone is small where it belongs to the checkpoint."""
    if variant not in SIGLIP2:
        return open_clip.create_model(NAMES[variant])
    settings = copy.deepcopy(open_clip.get_model_config(NAMES[variant]))
    settings["text_cfg"]["vocab_size"] = VOCABULARY
    settings.pop("custom_text")
    return CustomTextCLIP(**settings)


def opened(variant: str, folder: Path, start: str = "") -> tuple[MobileCLIP, Any]:
    """The tensors of a variant whose names begin with `start`, opened here and by open_clip."""
    with Unfilled():
        theirs = network(variant).eval()
    weights = {
        key: fill(SEED, key, tuple(value.shape)) for key, value in theirs.state_dict().items() if key.startswith(start)
    }
    if variant in SIGLIP2:
        (folder / "tokenizer.json").write_text(tokenizer_json(VOCABULARY), encoding="utf-8")
    theirs.load_state_dict(weights, strict=not start)
    path = folder / "open_clip_model.safetensors"
    save_file(weights, path)
    ours = load(path, origin=Origin(sha256="0" * 64))
    path.unlink()
    assert ours.variant.name == variant
    return ours, theirs


def answers_alike(ours: MobileCLIP, theirs: Any) -> bool:
    pixels = golden_images(SEED, ours.variant.preprocess.size)
    own, other = ours.encode_image(pixels), theirs.encode_image(pixels)
    assert relative_errors(own[:1], other[1:2]) > 1e-2  # not all the same
    return relative_errors(own, other) <= BOUND


@pytest.mark.parametrize("variant", ["pe_core_s16", "siglip2_b16_256"])
def test_other_widths_have_the_same_names_and_shapes(variant: str) -> None:
    """Networks of the kinds that are filled below."""
    with Unfilled():
        theirs = network(variant).state_dict()
    shapes = {ours: tuple(theirs[name].shape) for ours, name in canonical_names(theirs).items()}
    assert variant in [one.variant.name for one in fitting("open_clip", shapes)]


@pytest.mark.parametrize("variant", ["pe_core_t16", "siglip2_b32_256"])
@torch.no_grad()
def test_the_same_embeddings(variant: str, tmp_path: Path) -> None:
    ours, theirs = opened(variant, tmp_path)
    assert answers_alike(ours, theirs)
    ids = torch.from_numpy(encode(PROMPTS, ours.variant.tokens))
    assert relative_errors(ours.encode_text(ids), theirs.encode_text(ids)) <= BOUND


@torch.no_grad()
def test_the_image_tower_of_pe_core_b16_at_224_answers_as_open_clip_s(tmp_path: Path) -> None:
    """The image tower alone: with its text tower of 354 million parameters the file would have 1.8 GB."""
    assert answers_alike(*opened("pe_core_b16", tmp_path, "visual."))
