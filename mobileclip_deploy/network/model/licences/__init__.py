"""Licences of weights as data: what a text allows, in whose words, and what whoever passes weights on has to add.

`terms.json` has one entry per text that was read, or that could not be; a card names its entry. No legal advice: the
words are quoted, with where they stand, and what no text says clearly is "unknown".
"""

from __future__ import annotations

import json
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, model_validator

from mobileclip_deploy.base.files.names import Prose

__all__ = ["USES", "Answer", "Applies", "Licence", "LicenceUse", "Terms", "all_terms", "licence_text"]

LicenceUse = Literal["research", "redistribution", "product"]
USES: tuple[LicenceUse, ...] = ("research", "redistribution", "product")
FOLDER = Path(__file__).parent


class Answer(BaseModel, frozen=True, extra="forbid"):
    """Whether one use is allowed: `words`, of the text or why it is not clear; `source`: where they were read;
    `dated`: when the text was published, None where it could not be read."""

    answer: Literal["yes", "no", "unknown"]
    words: Prose
    source: Prose | None = None
    dated: date | None = None


class Terms(BaseModel, frozen=True, extra="forbid"):
    """One licence text.

    Attributes:
        name: as bundles record it; `label`: as tables show it; `spdx`: its SPDX id, where it has one.
        source, dated: where the text was read, and when it was published; without a date it could not be read.
        read: SHA-256 of the texts that were read, where none is packaged.
        text: the packaged file that bundles carry, in `texts/`.
        of: the weights, where no card here names the entry.
        research, redistribution, product: what it says of a use; with a `source` of its own it was said of the
            weights, elsewhere.
        asks: what whoever passes the weights on has to do; `sentence`: what has to be said, word for word.
    """

    name: str
    label: str
    spdx: str | None = None
    source: str
    dated: date | None = None
    read: tuple[str, ...] = ()
    text: str | None = None
    of: str | None = None
    research: Answer
    redistribution: Answer
    product: Answer
    asks: tuple[str, ...] = ()
    sentence: str | None = None

    def ruling(self, use: LicenceUse) -> Answer:
        """What the text says of one use, with where that was read."""
        own: Answer = getattr(self, use)
        return own if own.source is not None else own.model_copy(update={"source": self.source, "dated": self.dated})


class Applies(BaseModel, frozen=True, extra="forbid"):
    """Where it was said that the weights, not only the code beside them, come under a text. `read`: when we read it."""

    words: str
    source: str
    read: date


class Licence(BaseModel, frozen=True, extra="forbid"):
    """The licence of a card's weights (the code has its own).

    A packaged card gives `terms`, an entry of terms.json, and the rest follows. A card of somebody's own gives `name`
    and `research_only`, and nothing is clear. `earlier`: entries that the same weights came under before.
    """

    name: str
    url: str | None = None
    research_only: bool
    terms: str | None = None
    applies: Applies | None = None
    earlier: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_its_terms(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("terms") is None:
            return data
        unknown = [name for name in (data["terms"], *(data.get("earlier") or ())) if name not in all_terms()]
        if unknown:
            raise ValueError(f"no licence is called {unknown[0]!r}; known: {', '.join(all_terms())}")
        found = all_terms()[data["terms"]]
        told = {"name": found.name, "url": found.source, "research_only": found.product.answer == "no"}
        return {**data, **told}

    @property
    def text(self) -> Terms | None:
        """The text that the weights come under today; None of a card of somebody's own."""
        return None if self.terms is None else all_terms()[self.terms]

    @property
    def label(self) -> str:
        """As tables show it."""
        return self.name if self.text is None else self.text.label

    def answer(self, use: LicenceUse) -> Answer:
        """Whether a use is allowed to whoever takes the weights today."""
        if self.text is None:
            answer: Literal["no", "unknown"] = "no" if self.research_only and use == "product" else "unknown"
            return Answer(answer=answer, words="the card names a licence and no terms that were read", source=self.url)
        found = self.text.ruling(use)
        if found.answer != "yes" or self.applies is not None or getattr(self.text, use).source is not None:
            return found
        doubt = f"the text says {found.words}; nothing that was read says that the weights come under it"
        return Answer(answer="unknown", words=doubt, source=found.source, dated=found.dated)

    def answer_of_copy(self, use: LicenceUse) -> Answer:
        """Whether a use is allowed with a copy of the weights whose age nobody can tell: a hash is the same whenever it
        was taken. What is allowed today is; what is not may have been, under an earlier text, and is unknown."""
        today = self.answer(use)
        before = [all_terms()[name] for name in self.earlier if all_terms()[name].ruling(use).answer != "no"]
        if today.answer != "no" or not before:
            return today
        dates = ", ".join(str(one.dated) for one in before)
        words = f"no, by the text of {today.dated}: {today.words}; texts of {dates} said otherwise; a copy has no date"
        return Answer(answer="unknown", words=words, source=today.source, dated=today.dated)

    def uses_of_copy(self) -> dict[LicenceUse, Answer]:
        """Every use with its answer, for a copy whose age nobody can tell."""
        return {use: self.answer_of_copy(use) for use in USES}


@cache
def all_terms() -> dict[str, Terms]:
    """Every licence text that is known here, by its name in cards."""
    told = json.loads((FOLDER / "terms.json").read_text(encoding="utf-8"))
    return {name: Terms.model_validate(one) for name, one in told.items()}


def licence_text(name: str) -> bytes:
    """The packaged licence text of this file name, as bundles carry it."""
    return (FOLDER / "texts" / name).read_bytes()
