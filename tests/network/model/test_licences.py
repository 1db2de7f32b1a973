"""Licences as data: words that stand in the texts, answers that are yes only where both halves were read."""

import re

import pytest
from pydantic import ValidationError

from mobileclip_deploy.network.model.licences import USES, Licence, all_terms, licence_text
from mobileclip_deploy.network.model.variants import variant_cards

PACKAGED = {name: one for name, one in all_terms().items() if one.text is not None}
RELATIVES = ("clip_vit_b16_laion", "clip_vit_l14_datacomp", "nano", "tinyclip_8m_16", "tinyclip_61m_32")


@pytest.mark.parametrize("name", PACKAGED)
def test_every_quoted_word_stands_in_the_packaged_text(name: str) -> None:
    terms = PACKAGED[name]
    text = " ".join(licence_text(terms.text or "").decode().split())
    quoted = [
        part.strip()
        for use in USES
        if getattr(terms, use).source is None
        for quote in re.findall(r'"([^"]+)"', terms.ruling(use).words)
        for part in quote.split("[...]")
    ]
    assert [part for part in quoted if part not in text] == []


def test_a_text_that_was_not_read_or_that_nobody_says_of_the_weights_is_no_yes() -> None:
    unread = [one for one in all_terms().values() if one.dated is None]
    assert unread
    assert {one.ruling(use).answer for one in unread for use in USES} == {"unknown"}
    said = next(card.licence for card in variant_cards() if card.name == "tinyclip_8m_16")
    assert {said.answer(use).answer for use in USES} == {"yes"}
    unsaid = said.model_copy(update={"applies": None})
    assert {unsaid.answer(use).answer for use in USES} == {"unknown"}
    assert "nothing that was read says that the weights come under it" in unsaid.answer("product").words


def test_every_entry_is_of_a_card_or_says_of_what() -> None:
    cards = variant_cards()
    named = {name for card in cards for name in (card.licence.terms, *card.licence.earlier)}
    assert {name for name, one in all_terms().items() if one.of is None} <= named


def test_products_may_use_what_is_said_clearly_and_nothing_else() -> None:
    yes = {card.name for card in variant_cards() if card.licence.answer("product").answer == "yes"}
    assert {*RELATIVES} <= yes
    cores = {card.name: card.licence for card in variant_cards() if card.name.startswith("pe_core")}
    assert {licence.answer_of_copy("product").answer for licence in cores.values()} == {"yes"}
    # Of SigLIP2 it is not said which of two licences it is.
    assert not [name for name in yes if name.startswith(("mobileclip", "dfn", "siglip2"))]
    assert "clip_vit_b32" not in yes  # whether OpenAI's MIT is of the weights was asked and never answered


def test_a_copy_has_no_date_and_what_today_forbids_is_unknown_never_yes() -> None:
    cards = {card.name: card.licence for card in variant_cards()}
    first, second = cards["mobileclip_s0"], cards["mobileclip2_s0"]
    assert (first.answer("product").answer, second.answer("product").answer) == ("no", "no")
    assert (first.answer_of_copy("product").answer, second.answer_of_copy("product").answer) == ("unknown", "no")
    assert "2024-07-22" in first.answer_of_copy("product").words
    assert first.answer_of_copy("research").answer == "yes"
    for card in cards.values():
        changed = {use for use in USES if card.answer(use).answer != card.answer_of_copy(use).answer}
        assert all(card.answer_of_copy(use).answer == "unknown" for use in changed)


@pytest.mark.parametrize(("research_only", "product"), [(False, "unknown"), (True, "no")])
def test_a_card_of_ones_own_is_never_a_yes(research_only: bool, product: str) -> None:
    licence = Licence(name="none", research_only=research_only)
    assert [licence.answer(use).answer for use in USES] == ["unknown", "unknown", product]


@pytest.mark.parametrize("data", [{}, {"name": "x"}, {"terms": "mit-opencilp"}, {"terms": "mit-tinyclip", "x": 1}])
def test_a_licence_that_says_nothing_or_something_unknown_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Licence.model_validate(data)


def test_terms_decide_and_a_card_cannot_say_otherwise() -> None:
    told = Licence.model_validate({"terms": "apple-amlr", "name": "MIT", "research_only": False})
    assert (told.name, told.research_only) == (all_terms()["apple-amlr"].name, True)
