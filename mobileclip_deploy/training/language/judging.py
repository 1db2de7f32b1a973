"""Judgement of a text tower on sentences that it did not see: each text searches for its own English sentence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.errors import GateFailed
from mobileclip_deploy.evaluation.metrics import ranks_of
from mobileclip_deploy.training.language.parallel import ENGLISH

CHANCE, SURE = 0.5, 3.0
"""Constants of the verdict. `CHANCE`: share of candidates before the right one if texts carry no information. `SURE`:
standard errors by which two shares must differ to count as different."""


@dataclass(frozen=True)
class Found:
    """Retrieval results of one language, whose texts search their English sentence among all held-out ones. `texts`:
    their number; `recall`: recall@1 in percent. `before`: mean share of the other candidates that are nearer than the
    right one (0 to 1; 0.5 by chance)."""

    texts: int
    candidates: int
    recall: float
    before: float


def evaluate_language(
    texts: npt.NDArray[np.float32], english: npt.NDArray[np.float32], right: npt.NDArray[np.int64]
) -> Found:
    """Measures the retrieval of one language.

    Args:
        texts: unit length [M, D], of one language, by the tower that is judged.
        english: unit length [K, D], by the teacher.
        right: [M], the index of each text's sentence.
    """
    ranks = ranks_of(texts @ english.T, right)
    others = max(len(english) - 1, 1)
    return Found(len(texts), len(english), float(100 * np.mean(ranks == 0)), float(np.mean(ranks) / others))


def check_learned(
    begun: Mapping[str, Found], told: Mapping[str, Found], english_bound: float, goes_on: bool = False
) -> None:
    """Refuses a tower that learned nothing of a language, or lost English.

    Args:
        begun: results before the first step. A tower that begins with its teacher's layers knows words that a language
            shares with English.
        told: results now.
        goes_on: the tower had learned the languages before; then it must not get worse.

    Raises:
        GateFailed: a language's texts are no nearer to their own sentences than before, or than to others' (as with
            lines in another order). Or fewer than `english_bound` percent of the English sentences find themselves.
    """
    for language, row in told.items():
        error = 1 / math.sqrt(12 * row.texts)  # of the mean of `texts` shares that are uniform from 0 to 1
        before = begun[language].before + (SURE * error if goes_on else -SURE * error)
        bound = min(before, CHANCE - SURE * error)
        if language != ENGLISH and row.before > bound:
            few = f"{row.texts:,} held-out texts are too few to pass: give" if bound < 0 else "Give"
            raise GateFailed(
                f"{language} was not learned (mean rank {row.before:.0%}, before {begun[language].before:.0%}, chance "
                f"{CHANCE:.0%}). {few} more rows or steps. If there are enough, check that both columns say the same"
            )
    english = told.get(ENGLISH)
    if english is not None and english.recall < english_bound:
        raise GateFailed(
            f"{english.recall:.1f}% of the held-out English sentences retrieve themselves; the bound is "
            f"{english_bound:g}% (`english_bound`); give English a larger share (`english`), or train for more steps"
        )
