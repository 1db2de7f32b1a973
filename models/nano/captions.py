"""Captions of the training concepts: which there are, which concepts each is true of, and their token ids."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import torch
from open_clip import SimpleTokenizer
from torch import Tensor

__all__ = ["CaptionSource"]

TEMPLATES = (
    "an emoji of {}",
    "a photo of a {}",
    "a picture of {}",
    "a drawing of {}",
    "an icon of {}",
    "{} emoji",
    "a {}",
)
MIRRORED_GROUPS = ("animals & nature", "food & drink", "people & body", "activities", "objects")
DIRECTED = re.compile(r"left|right|facing|pointing|moon|quarter|crescent|globe|clock|magnifying|abc|book|letter")


class CaptionSource:
    """Draws captions for concepts and answers which concepts each caption is true of.

    `vocabulary` lists, in order, the token ids that any caption can hold. Captions are encoded in positions of that
    list: it is sorted, so the end-of-text token stays the largest and the padding stays 0.
    """

    def __init__(self, work: Path, chance: random.Random) -> None:
        self.concepts: list[dict[str, Any]] = json.loads((work / "concepts.json").read_text(encoding="utf-8"))[
            "concepts"
        ]
        self.chance = chance
        self.size = len(self.concepts)
        self.truth: dict[str, set[int]] = defaultdict(set)
        for number, concept in enumerate(self.concepts):
            for text in self._texts(concept):
                self.truth[text].add(number)
        self._tokenizer = SimpleTokenizer()
        pieces = [*self.truth, *(template.format("") for template in TEMPLATES), ","]
        used = {0, self._tokenizer.sot_token_id, self._tokenizer.eot_token_id}
        for piece in pieces:
            used.update(self._tokenizer.encode(piece))
        self.vocabulary = torch.tensor(sorted(used))
        self.mirrors = torch.tensor(
            [concept["group"] in MIRRORED_GROUPS and not DIRECTED.search(concept["label"]) for concept in self.concepts]
        )

    @staticmethod
    def _texts(concept: dict[str, Any]) -> list[str]:
        return [concept["label"], concept["unicode_name"], *concept["tags"], concept["subgroup"].replace("-", " ")]

    def _draw_one(self, concept: dict[str, Any]) -> tuple[str, set[int]]:
        """A caption without template, and the concepts that it is true of: half the time the concept's own name."""
        kind = self.chance.random()
        tags = concept["tags"]
        if kind < 0.55 or (kind < 0.92 and not tags):
            text = concept["label"]
        elif kind < 0.62:
            text = concept["unicode_name"]
        elif kind < 0.78:
            text = self.chance.choice(tags)
        elif kind < 0.92:
            some = self.chance.sample(tags, min(len(tags), self.chance.choice((2, 3))))
            return ", ".join(some), set.intersection(*(self.truth[tag] for tag in some))
        else:
            text = concept["subgroup"].replace("-", " ")
        return text, self.truth[text]

    @cache  # noqa: B019 - one source lives as long as the training
    def _encode(self, text: str) -> Tensor:
        return self.compact(self._tokenizer(text))[0]

    def encode_labels(self) -> Tensor:
        """The names of all concepts as compact ids [K, 77]."""
        return torch.stack([self._encode(concept["label"]) for concept in self.concepts])

    def compact(self, ids: Tensor) -> Tensor:
        """Token ids [N, 77] as positions in `vocabulary`."""
        return torch.searchsorted(self.vocabulary, ids)

    def draw(self, concepts: Tensor) -> tuple[Tensor, Tensor]:
        """One random caption a concept: compact ids [C, 77], and truth 0/1 float [C, K] over all K concepts."""
        rows, truth = [], torch.zeros(len(concepts), self.size)
        for row, number in enumerate(concepts.tolist()):
            text, true_of = self._draw_one(self.concepts[number])
            if self.chance.random() < 0.4:
                text = self.chance.choice(TEMPLATES).format(text)
            rows.append(self._encode(text))
            truth[row, list(true_of)] = 1
        return torch.stack(rows), truth
