"""The pages stay short: a limit on their words, figures left out, and on idioms that readers stumble over."""

import re

import pytest
from conversions import ROOT

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
MOST_WORDS, MOST_OUTSIDE_OF_TABLES = 45_000, 30_000
IDIOMS = {  # per 1,000 words
    r"\b(?:stands?(?!-in)|stood|standing)\b": 0.2,
    r"\b(?:told|telling)\b": 0.3,
    r"\b(?:asked|asks?|asking)\b": 0.3,
    r"\bbeside\b": 0.1,
    r"\bbehind\b": 0.15,
    r"\banew\b": 0.02,
    r"\bso (?:many|much)\b": 0.03,
    r"\bof (?:what|which|whom)\b": 0.1,
}


def test_the_pages_have_few_words() -> None:
    lines = [line for page in PAGES if page.parent.name == "docs" for line in page.read_text("utf-8").splitlines()]
    words = sum(len(line.split()) for line in lines)
    outside = sum(len(line.split()) for line in lines if not line.lstrip().startswith("|"))
    assert words <= MOST_WORDS, "move tables of figures to docs/figures, and history into git"
    assert outside <= MOST_OUTSIDE_OF_TABLES


@pytest.mark.parametrize("idiom", IDIOMS)
def test_an_idiom_is_rare(idiom: str) -> None:
    text = "\n".join(re.sub(r"`[^`]*`", "", page.read_text("utf-8")) for page in PAGES)
    found = [match.group() for match in re.finditer(idiom, text, re.IGNORECASE)]
    assert 1000 * len(found) / len(text.split()) <= IDIOMS[idiom], f"{len(found)} times {found[0]!r}"
