"""Images are prepared as open_clip prepares them, and every variant that it knows is compared with it."""

from typing import Any

import open_clip
import pytest
import torch
from network.checkpoints.test_vit_family import PUBLISHED
from PIL import Image
from tiny import TINY

from mobileclip_deploy.network import samples
from mobileclip_deploy.network.embedding import normalize
from mobileclip_deploy.network.model.preprocessing import load_batch
from mobileclip_deploy.network.model.variants import load_variant, variant_names

# open_clip's name of the architecture, its tag of the published weights, our variant: tests/golden has its answers.
MODELS = [
    ("MobileCLIP2-S0", "dfndr2b", "mobileclip2_s0"),
    ("MobileCLIP-S1", "datacompdr", "mobileclip_s1"),
    ("MobileCLIP-S2", "datacompdr", "mobileclip_s2"),
    ("MobileCLIP2-S2", "dfndr2b", "mobileclip2_s2"),
    ("MobileCLIP2-S3", "dfndr2b", "mobileclip2_s3"),
    ("MobileCLIP2-B", "dfndr2b", "mobileclip2_b"),
    ("MobileCLIP-B", "datacompdr", "mobileclip_b"),
    ("MobileCLIP2-S4", "dfndr2b", "mobileclip2_s4"),
    ("MobileCLIP2-L-14", "dfndr2b", "mobileclip2_l14"),
    ("MobileCLIP-B", "datacompdr_lt", "mobileclip_blt"),
]
IMAGES = samples.image_paths()[:2]
SQUASHED = [
    ("PE-Core-T-16-384", "meta", "pe_core_t16"),
    ("ViT-B-32-SigLIP2-256", "webli", "siglip2_b32_256"),
]


def prepared(said: dict[str, Any], size: int) -> torch.Tensor:
    """The images by open_clip's own preprocessing for published weights, of which it says so much."""
    settings = {name: said[name] for name in ("mean", "std", "interpolation")}
    mode = said.get("resize_mode", "shortest")
    transform: Any = open_clip.image_transform(size, is_train=False, resize_mode=mode, **settings)
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in IMAGES])


@pytest.mark.parametrize(("name", "tag", "variant"), SQUASHED)
def test_photographs_are_squashed_as_open_clip_does(name: str, tag: str, variant: str) -> None:
    spec = load_variant(variant).preprocess
    own = {"mean": spec.mean, "std": spec.std, "interpolation": spec.interpolation, "resize_mode": spec.resize}
    published = open_clip.get_pretrained_cfg(name, tag) or own
    assert published["resize_mode"] == spec.resize == "squash"
    assert torch.equal(normalize(torch.from_numpy(load_batch(IMAGES, spec)), spec), prepared(published, spec.size))


OTHERS = [(name, tag, variant) for variant, (name, tag) in PUBLISHED.items()]


@pytest.mark.parametrize(("name", "tag", "variant"), [*MODELS, *SQUASHED[:2], *OTHERS])
def test_preprocessing_is_what_open_clip_says_of_the_published_weights(name: str, tag: str, variant: str) -> None:
    published, card = open_clip.get_pretrained_cfg(name, tag), load_variant(variant)
    assert card.preprocess.mean == pytest.approx(published["mean"])
    assert card.preprocess.std == pytest.approx(published["std"])
    assert card.preprocess.interpolation == published["interpolation"]
    assert card.preprocess.size == open_clip.get_model_config(name)["vision_cfg"]["image_size"]
    repositories = {source.repository for source in card.sources}
    assert published["hf_hub"].rstrip("/") in repositories


def test_open_clip_variants_are_all_compared_or_have_a_twin_that_is() -> None:
    compared = {variant for _, _, variant in MODELS}
    v1_large = {"mobileclip_s3", "mobileclip_s4", "mobileclip_l14"}  # not known to open_clip; same networks as v2's
    ours = {name for name in variant_names() if "open_clip" in load_variant(name).layouts}
    elsewhere = (
        "clip_",
        "dfn_",
        "tinyclip_",
        "pe_core_",
        "siglip2_",
    )  # test_vit_family.py, and tests of their own
    ours -= {name for name in ours if name.startswith(elsewhere)}
    assert {name for name in ours - v1_large if name not in TINY} == compared
    for name in v1_large:
        card, twin = load_variant(name), load_variant(name.replace("mobileclip_", "mobileclip2_"))
        assert (card.image, card.text, card.preprocess) == (twin.image, twin.text, twin.preprocess)
