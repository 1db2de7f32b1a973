"""What a text tower has learned, on sentences that it did not see: each text looks for its own English sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import GateFailed
from mobileclip_deploy.evaluation.metrics import ranks_of
from mobileclip_deploy.training.language.parallel import ENGLISH

CHANCE, SURE = 0.5, 3.0
"""Half of candidates that tell nothing come before the right one. `SURE`: standard errors that a share has to differ
by before it counts as another one."""


@dataclass(frozen=True)
class Found:
    """How the texts of one language find their English sentence among all held-out ones: their number, recall@1 in
    percent, and `before`, the mean share of the other candidates that are nearer than the right one (0 to 1; 0.5 by
    chance)."""

    texts: int
    candidates: int
    recall: float
    before: float


def found(texts: npt.NDArray[np.float32], english: npt.NDArray[np.float32], right: npt.NDArray[np.int64]) -> Found:
    """Args:
    texts: unit length [M, D], of one language, by the tower that is judged.
    english: unit length [K, D], by the teacher.
    right: [M], the sentence of each text.
    """
    ranks = ranks_of(texts @ english.T, right)
    others = max(len(english) - 1, 1)
    return Found(len(texts), len(english), float(100 * np.mean(ranks == 0)), float(np.mean(ranks) / others))


def check_learned(
    begun: Mapping[str, Found], told: Mapping[str, Found], english_bound: float, goes_on: bool = False
) -> None:
    """Refuse a tower that learned nothing of a language, or lost English.

    Args:
        begun: what was found before the first step. A tower that begins with its teacher's layers knows words that a
            language shares with English.
        told: what is found now.
        goes_on: the tower had learned the languages before; then it must not find less than it did.

    Raises:
        GateFailed: a language's texts are no nearer to their own sentences than they were, or than to others', as where
            the lines of one side are in another order; or fewer than `english_bound` percent of the English sentences
            find themselves.
    """
    for language, one in told.items():
        error = 1 / math.sqrt(12 * one.texts)  # of the mean of so many shares that are uniform from 0 to 1
        before = begun[language].before + (SURE * error if goes_on else -SURE * error)
        if language != ENGLISH and one.before > min(before, CHANCE - SURE * error):
            raise GateFailed(
                f"{language}: of {one.candidates:,} held-out English sentences {one.before:.0%} are nearer to a text "
                f"than its own; before the training {begun[language].before:.0%} were, and half are by chance. Do the "
                "two sides of a row say the same?"
            )
    own = told.get(ENGLISH)
    if own is not None and own.recall < english_bound:
        raise GateFailed(
            f"{own.recall:.1f}% of the held-out English sentences find themselves, and {english_bound:g}% are the "
            "bound (`english_bound`); give English a larger share (`english`), or train for more steps"
        )
