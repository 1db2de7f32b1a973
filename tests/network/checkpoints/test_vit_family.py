"""CLIP's ViTs of others (OpenAI, LAION, DataComp, DFN, TinyCLIP): their cards build the network that open_clip builds.

Names and shapes are compared at full depth, values at two layers a tower: all layers are of one kind.
"""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from golden_checkpoints import relative_errors
from PIL import Image
from safetensors.torch import save_file
from unfilled import Unfilled

from mobileclip_deploy.network import samples
from mobileclip_deploy.network.checkpoints.fitting import fitting
from mobileclip_deploy.network.checkpoints.loading import load
from mobileclip_deploy.network.checkpoints.open_clip import canonical_names
from mobileclip_deploy.network.embedding import normalize
from mobileclip_deploy.network.model import variants
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import models_dir, variant_names

# Our variant: open_clip's name of the architecture, its tag of the published weights.
PUBLISHED = {
    "clip_vit_b16": ("ViT-B-16-quickgelu", "openai"),
    "clip_vit_b16_laion": ("ViT-B-16", "laion2b_s34b_b88k"),
    "clip_vit_b32": ("ViT-B-32-quickgelu", "openai"),
    "clip_vit_b32_256": ("ViT-B-32-256", "datacomp_s34b_b86k"),
    "clip_vit_b32_laion": ("ViT-B-32", "laion2b_s34b_b79k"),
    "clip_vit_l14": ("ViT-L-14-quickgelu", "openai"),
    "clip_vit_l14_datacomp": ("ViT-L-14", "datacomp_xl_s13b_b90k"),
    "clip_vit_l14_laion": ("ViT-L-14", "laion2b_s32b_b82k"),
    "dfn_vit_b16": ("ViT-B-16-quickgelu", "dfn2b"),
    "dfn_vit_l14": ("ViT-L-14-quickgelu", "dfn2b"),
    "dfn_vit_l14_39b": ("ViT-L-14", "dfn2b_s39b"),
}
# From these TinyCLIP's fork of open_clip builds its networks (microsoft/Cream: TinyCLIP/src/open_clip/model_configs).
TINYCLIP = {
    "tinyclip_39m_16": {"vision": (512, 12, 16), "text": (512, 8, 6)},
    "tinyclip_40m_32": {"vision": (512, 12, 32), "text": (512, 8, 6)},
    "tinyclip_61m_32": {"vision": (640, 12, 32), "text": (512, 8, 9)},
    "tinyclip_8m_16": {"vision": (256, 10, 16), "text": (256, 4, 3)},
}
# QuickGELU, GELU, and towers of another depth: the others are these with other widths, whose shapes are compared.
NETWORKS = ("clip_vit_b32", "clip_vit_b16_laion", "tinyclip_8m_16")
IMAGES = samples.image_paths()[:2]
PROMPTS = ["a photo of a dog", "un café, s'il vous plaît", ""]


def architecture(variant: str) -> dict[str, Any]:
    """What open_clip builds a variant from."""
    if variant in PUBLISHED:
        return dict(open_clip.get_model_config(PUBLISHED[variant][0]))
    (width, layers, patch), (text, heads, depth) = TINYCLIP[variant]["vision"], TINYCLIP[variant]["text"]
    return {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": layers, "width": width, "patch_size": patch},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": text, "heads": heads, "layers": depth},
    }


def built(config: dict[str, Any], device: str) -> open_clip.CLIP:
    with torch.device(device), Unfilled():
        return open_clip.CLIP(**config).eval()


def test_all_plain_vits_are_compared() -> None:
    others = {name for name in variant_names() if name.startswith(("clip_", "dfn_", "tinyclip_"))}
    assert others == {*PUBLISHED, *TINYCLIP}


@pytest.mark.parametrize("variant", [*PUBLISHED, *TINYCLIP])
def test_names_and_shapes_are_open_clip_s(variant: str) -> None:
    theirs = built(architecture(variant), "meta").state_dict()
    names = canonical_names(theirs)
    shapes = {ours: tuple(theirs[name].shape) for ours, name in names.items()}
    assert variant in [one.variant.name for one in fitting("open_clip", shapes)]


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("variant", NETWORKS)
@torch.no_grad()
def test_two_layers_of_it_answer_as_open_clip_s(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = json.loads((models_dir() / f"{variant}.json").read_text(encoding="utf-8"))
    config = architecture(variant)
    for ours, theirs in (("image", "vision_cfg"), ("text", "text_cfg")):
        card[ours]["depth"], config[theirs] = 2, config[theirs] | {"layers": 2}
    card["name"] = f"shallow_{variant}"
    path = tmp_path / f"{card['name']}.json"
    path.write_text(json.dumps(card), encoding="utf-8")
    cards = variants._cards() | {card["name"]: path}
    monkeypatch.setattr(variants, "_cards", lambda: cards)

    theirs = built(config, "cpu")
    weights = {key: torch.randn(tensor.shape) / 20 for key, tensor in theirs.state_dict().items()}
    theirs.load_state_dict(weights, assign=True)
    save_file(weights, tmp_path / "weights.safetensors")
    ours = load(tmp_path / "weights.safetensors", card["name"])

    transform = open_clip.image_transform(
        224, is_train=False, mean=card["preprocess"]["mean"], std=card["preprocess"]["std"]
    )
    pixels = torch.stack([transform(Image.open(path)) for path in IMAGES])  # type: ignore[arg-type]
    spec = ours.variant.preprocess
    own = ours.encode_image(normalize(torch.from_numpy(load_batch(IMAGES, spec)), spec))
    assert relative_errors(own, theirs.encode_image(pixels)) <= 1e-5
    texts = ours.encode_text(torch.from_numpy(encode(PROMPTS)))
    assert relative_errors(texts, theirs.encode_text(open_clip.get_tokenizer("ViT-B-32")(PROMPTS))) <= 1e-5
