"""docs/variants.md lists every card, with the figures that stand in it."""

from __future__ import annotations

import pytest
from conversions import ROOT

from mobileclip_deploy.network.model.variants import MCiTower, Variant, load_variant, variant_names


def row(card: Variant) -> str:
    """A line of the page's table."""
    image = card.image
    kind = "MCi" if isinstance(image, MCiTower) else f"ViT, patches of {image.patch}"
    kind += ", QuickGELU" if card.activation == "QuickGELU" else ""
    text = "none" if card.text is None else f"{card.text.depth} x {card.text.width}"
    text += ", causal" if card.text is not None and card.text.causal else ""
    gives = f"{len(card.class_names):,} probabilities" if card.classes else f"{card.embed_dim} numbers"
    if card.gives_tokens:
        gives = " x ".join(map(str, card.answer_shape)) + " numbers"
    millions = f"{card.parameters_image / 1e6:.1f} + {card.parameters_text / 1e6:.1f}"
    published = card.published.imagenet_top1 if card.published is not None else None
    top1 = "" if published is None else f"{published:.1f}"
    cells = [f"`{card.name}`", f"{kind}, {card.preprocess.size}", text, gives, millions, top1]
    cells += [card.licence.label, card.licence.answer("product").answer]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", variant_names())
def test_the_table_says_what_the_card_says(name: str) -> None:
    assert row(load_variant(name)) in (ROOT / "docs" / "variants.md").read_text(encoding="utf-8").splitlines()
