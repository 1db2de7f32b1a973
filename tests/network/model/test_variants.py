"""Variants: the cards are whole, their names are found however they are written, and layouts and sizes change them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import output
from tiny import tiny_variant

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import Variant, load_variant, models_dir, read_card, variant_names


def test_the_family_is_whole() -> None:
    assert {
        *("mobileclip_s0", "mobileclip_s1", "mobileclip_s2", "mobileclip_b", "mobileclip_blt"),
        *("mobileclip_s3", "mobileclip_s4", "mobileclip_l14"),
        *("mobileclip2_s0", "mobileclip2_s2", "mobileclip2_b"),
        *("mobileclip2_s3", "mobileclip2_s4", "mobileclip2_l14"),
        *("clip_vit_b16", "clip_vit_b16_laion", "nano"),
    } <= set(variant_names())


@pytest.mark.parametrize("name", variant_names())
def test_every_card_is_named_licensed_and_sourced(name: str) -> None:
    card = load_variant(name)
    assert card.name == name
    assert card.licence.name
    assert card.licence.research_only == name.startswith("mobileclip")
    if name != "nano" and not name.startswith("tinyclip_"):  # the hub has TinyCLIP in another library's form
        assert card.sources
        assert {source.layout for source in card.sources} <= set(card.layouts)
    if card.published:
        assert card.published.source.startswith("https://")


@pytest.mark.parametrize("name", [n for n in variant_names() if n.startswith("mobileclip")])
def test_published_figures_are_there(name: str) -> None:
    published = load_variant(name).published
    assert published.imagenet_top1
    assert published.average_38
    assert published.iphone_12_pro_max_image_ms


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("MobileCLIP-S0", "mobileclip_s0"),
        ("MobileCLIP2-L-14", "mobileclip2_l14"),
        ("mobileclip-b-lt", "mobileclip_blt"),
        ("MOBILECLIP2_S4", "mobileclip2_s4"),
        ("CLIP-ViT-B-16", "clip_vit_b16"),
    ],
)
def test_names_are_found_however_they_are_written(written: str, name: str) -> None:
    assert load_variant(written).name == name


def test_an_unknown_name_is_told_with_those_like_it() -> None:
    told = r"which could be clip_vit_b32 \(QuickGELU\), clip_vit_b32_256 \(GELU\), clip_vit_b32_laion \(GELU\); "
    told += "open_clip's ViTs have GELU, those"
    with pytest.raises(UsageError, match=rf"unknown variant 'ViT-B-32', {told} called -quickgelu and OpenAI's have Q"):
        load_variant("ViT-B-32")
    with pytest.raises(UsageError, match=r"which could be clip_vit_b32 \(QuickGELU\); open_clip's"):
        load_variant("ViT-B-32-quickgelu")
    with pytest.raises(UsageError, match=r"unknown variant 'mobileclip_s9', did you mean mobileclip_s\d\?; `variants`"):
        load_variant("mobileclip_s9")


def test_layouts_change_what_they_say_and_nothing_else() -> None:
    card = load_variant("mobileclip_b")
    apple, open_clip = card.for_layout("apple"), card.for_layout("open_clip")
    assert apple.image == card.image
    assert open_clip.image.norm_eps == 1e-6  # type: ignore[union-attr]
    assert open_clip.text == apple.text
    with pytest.raises(UsageError, match="mobileclip_s0 has no open_clip checkpoints; known layouts: apple"):
        load_variant("mobileclip_s0").for_layout("open_clip")


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobileclip_s0", 320),
        ("mobileclip_s0", 32),
        ("mobileclip2_s4", 384),
        ("mobileclip2_l14", 336),
        ("mobileclip_b", 384),
    ],
)
def test_image_sizes_that_a_tower_takes(name: str, size: int) -> None:
    card = load_variant(name).with_image_size(size)
    assert card.image_input_shape == (3, size, size)
    assert card.preprocess.mean == load_variant(name).preprocess.mean


@pytest.mark.parametrize(
    ("name", "size", "step"),
    [
        ("mobileclip_s0", 300, 32),
        ("mobileclip2_s3", 288, 64),
        ("mobileclip2_l14", 256, 14),
        ("mobileclip_b", 200, 16),
        ("mobileclip_s0", 0, 32),
        ("mobileclip_s0", -32, 32),
        ("mobileclip_s0", 32000, 32),
    ],
)
def test_image_sizes_that_it_does_not(name: str, size: int, step: int) -> None:
    with pytest.raises(UsageError, match=f"multiples of {step} up to 4096, not {size}"):
        load_variant(name).with_image_size(size)


def test_a_card_of_one_stage_too_few_or_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    card = tiny_variant("tiny_five").model_dump(mode="json")
    card["image"]["depths"] = [1, 1]
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(InvalidInput, match=r"card\.json: image.*differ in length"):
        read_card(tmp_path / "card.json")
    card = tiny_variant("tiny_five").model_dump(mode="json") | {"colour": "green"}
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(InvalidInput, match="colour"):
        read_card(tmp_path / "card.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', "\xff"])
def test_damaged_card_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.json").write_text(text, encoding="latin-1")
    with pytest.raises(InvalidInput) as caught:
        read_card(tmp_path / "card.json")
    assert "\n" not in str(caught.value)


def test_cards_read_back_as_they_were() -> None:
    for name in variant_names():
        text = (models_dir() / f"{name}.json").read_text(encoding="utf-8")
        card = Variant.model_validate(json.loads(text))
        assert Variant.model_validate_json(card.model_dump_json()) == card


def test_variants_do_not_import_torch() -> None:
    code = "import mobileclip_deploy.network.model.variants, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cards_of_ones_own_stand_beside_the_packaged_ones(tmp_path: Path) -> None:
    card = json.loads((models_dir() / "nano.json").read_text(encoding="utf-8")) | {"name": "mine", "title": "mine"}
    (tmp_path / "mine.json").write_text(json.dumps(card), encoding="utf-8")
    environment = os.environ | {"MOBILECLIP_DEPLOY_CARDS": str(tmp_path)}
    ask = "from mobileclip_deploy.network.model.variants import *; print(*variant_names(), load_variant('mine').title)"
    assert {"mine", "nano"} <= set(output(sys.executable, "-c", ask, env=environment).split())


def test_all_packaged_variants_have_one_vocabulary() -> None:
    """But for those whose checkpoints bring one."""
    known = [spec for name in variant_names() if (spec := load_variant(name).tokenizer) is not None]
    specs = [spec for spec in known if spec.kind is None]
    assert len({spec.model_dump_json(exclude={"context_length"}) for spec in specs}) == 1
