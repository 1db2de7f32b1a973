"""Licences of weights as data: permissions with quoted words, and duties of those who pass weights on.

`terms.json` has one entry per text that was read, or that could not be; a card names its entry. No legal advice: the
words are quoted, with their source. A use that no text permits or forbids clearly is "unknown".
"""

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
    """Answer for one use. `words`: of the text, or the reason why it is unclear; `source`: the text that was read;
    `dated`: date of the text, None if it could not be read."""

    answer: Literal["yes", "no", "unknown"]
    words: Prose
    source: Prose | None = None
    dated: date | None = None


class Terms(BaseModel, frozen=True, extra="forbid"):
    """One licence text.

    Attributes:
        name: as bundles record it; `label`: as tables show it; `spdx`: its SPDX id, if it has one.
        source, dated: location of the text, and its date; without a date it could not be read.
        read: SHA-256 of the texts that were read, if none is packaged.
        text: the packaged file that bundles carry, in `texts/`.
        of: the weights, if no card here names the entry.
        research, redistribution, product: the answer for a use; one with its own `source` is about the weights, and was
            published there.
        asks: duties of those who pass the weights on; `sentence`: a required sentence, word for word.
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
        """Returns the text's answer for one use, with its source."""
        ruling: Answer = getattr(self, use)
        return (
            ruling
            if ruling.source is not None
            else ruling.model_copy(update={"source": self.source, "dated": self.dated})
        )


class Applies(BaseModel, frozen=True, extra="forbid"):
    """A statement that the weights, not only the code next to them, are under a text. `read`: date on which we read
    it."""

    words: str
    source: str
    read: date


class Licence(BaseModel, frozen=True, extra="forbid"):
    """The licence of a card's weights (the code has its own).

    A packaged card gives `terms`, an entry of terms.json, which sets the rest. A user's card gives `name` and
    `research_only`, and all other uses are unknown. `earlier`: entries that the same weights were under before.
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
        earlier = data.get("earlier")
        names = (data["terms"], *(earlier if isinstance(earlier, list | tuple) else ()))
        unknown = [name for name in names if not isinstance(name, str) or name not in all_terms()]
        if unknown:
            raise ValueError(f"no licence is called {unknown[0]!r}; known: {', '.join(all_terms())}")
        terms = all_terms()[data["terms"]]
        fields = {"name": terms.name, "url": terms.source, "research_only": terms.product.answer == "no"}
        return {**data, **fields}

    @property
    def text(self) -> Terms | None:
        """Text that the weights are under today. None for a user's card."""
        return None if self.terms is None else all_terms()[self.terms]

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.name if self.text is None else self.text.label

    def answer(self, use: LicenceUse) -> Answer:
        """Returns the answer for a use by somebody who downloads the weights today."""
        if self.text is None:
            answer: Literal["no", "unknown"] = "no" if self.research_only and use == "product" else "unknown"
            return Answer(answer=answer, words="the card names a licence and no terms that were read", source=self.url)
        ruling = self.text.ruling(use)
        if ruling.answer != "yes" or self.applies is not None or getattr(self.text, use).source is not None:
            return ruling
        doubt = f"the text says {ruling.words}; nothing that was read says that the weights come under it"
        return Answer(answer="unknown", words=doubt, source=ruling.source, dated=ruling.dated)

    def answer_of_copy(self, use: LicenceUse) -> Answer:
        """Returns the answer for a copy of the weights whose date is unknown, since its hash is the same at any date. A
        use that is allowed today is allowed. One that is not may have been under an earlier text, and is unknown."""
        today = self.answer(use)
        before = [all_terms()[name] for name in self.earlier if all_terms()[name].ruling(use).answer != "no"]
        if today.answer != "no" or not before:
            return today
        dates = ", ".join(str(terms.dated) for terms in before)
        words = f"no, by the text of {today.dated}: {today.words}; texts of {dates} said otherwise; a copy has no date"
        return Answer(answer="unknown", words=words, source=today.source, dated=today.dated)

    def uses_of_copy(self) -> dict[LicenceUse, Answer]:
        """Returns the answer for every use, for a copy whose date is unknown."""
        return {use: self.answer_of_copy(use) for use in USES}


@cache
def all_terms() -> dict[str, Terms]:
    """Returns all known licence texts, by their names in cards."""
    entries = json.loads((FOLDER / "terms.json").read_text(encoding="utf-8"))
    return {name: Terms.model_validate(entry) for name, entry in entries.items()}


def licence_text(name: str) -> bytes:
    """Returns the packaged licence text of this file name, as bundles carry it."""
    return (FOLDER / "texts" / name).read_bytes()
