"""The table of docs/licences.md, from the cards and the licence texts that they name.

python benchmarks/card_tables.py    # seconds; tests/docs/test_licences_page.py fails where the page is another
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from generated import replace_block

from mobileclip_deploy.model.licences import USES, Answer, Licence, Terms, all_terms
from mobileclip_deploy.model.variants import Variant, variant_cards

__all__ = ["BEGIN", "END", "licence_rows"]

PAGE = Path(__file__).parents[1] / "docs" / "licences.md"
BEGIN, END = "<!-- begin: benchmarks/card_tables.py -->", "<!-- end -->"
HEAD = ("weights", "licence", *USES, "said of these weights in", "asks", "in `LICENSES/`")


def licence_rows() -> list[str]:
    """The table: one row per licence and what it is said of, the same for the same cards."""
    groups: dict[tuple[str | None, tuple[str, ...]], list[Variant]] = {}
    for card in variant_cards():
        groups.setdefault((card.licence.terms, card.licence.earlier), []).append(card)
    rows = [_row(cards) for cards in groups.values()]
    named = {name for terms, earlier in groups for name in (terms, *earlier)}
    rows += [_uncarded(one) for name, one in all_terms().items() if one.of and name not in named]
    before = {name for _, earlier in groups for name in earlier}
    rows += [_earlier(name) for name in sorted(before, reverse=True)]
    return [_line(HEAD), _line(["---"] * len(HEAD)), *rows]


def _row(cards: Sequence[Variant]) -> str:
    """Cards of one text; all of them were said to come under it, or none."""
    text = cards[0].licence.text
    assert text is not None
    assert len({card.licence.applies is None for card in cards}) == 1
    uses = [_answer(cards[0].licence.answer(use)) for use in USES]
    said = dict.fromkeys(_said(card.licence) for card in cards)
    return _line([_names(cards), _licence(text), *uses, "; ".join(said), *_rest(text)])


def _names(cards: Iterable[Variant]) -> str:
    return ", ".join(f"`{card.name}`" for card in cards)


def _uncarded(text: Terms) -> str:
    return _line(
        [f"{text.of}: no variant here", _licence(text), *(_answer(text.ruling(use)) for use in USES), "", "", ""]
    )


def _earlier(name: str) -> str:
    text = all_terms()[name]
    names = _names(card for card in variant_cards() if name in card.licence.earlier)
    uses = [_answer(text.ruling(use)) for use in USES]
    return _line([f"{names}: copies taken from {text.dated} on", _licence(text), *uses, "", "", ""])


def _licence(text: Terms) -> str:
    when = f"text of {text.dated}" if text.dated else "text not read"
    return f"{text.label}: [{when}]({text.source})"


def _answer(found: Answer) -> str:
    where = f" ([{found.dated or 'source'}]({found.source}))" if found.source else ""
    return f"**{found.answer}**: {found.words}{where}"


def _said(licence: Licence) -> str:
    if licence.applies is None:
        return "nothing that was read"
    source = licence.applies.source
    link = source if source.startswith("https:") else f"../{source}"
    return f"{licence.applies.words} ([read {licence.applies.read}]({link}))"


def _rest(text: Terms) -> list[str]:
    asks = "; ".join(text.asks) + (f"; the sentence: {text.sentence}" if text.sentence else "")
    return [asks, f"`{text.text}`" if text.text else "what you give with `--licence-text`"]


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    replace_block(PAGE, BEGIN, END, "\n".join(licence_rows()))
