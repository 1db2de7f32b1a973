"""Several candidates whose accuracy is confirmed on the same images: in which order, and what is asked of each.

One of several passes by luck more easily than one alone. Where they are asked in an order that was fixed before, and
the first that does not pass ends it, each may be asked as if it were alone (fixed-sequence testing; Maurer, Hothorn and
Lehmacher, in Vollmar, Biometrie in der chemisch-pharmazeutischen Industrie 6, 1995): to pass wrongly, the first one
that should not has to. So the search begins with a candidate that is predicted to be near, and goes down from it. Only
where that one does not pass does it go up, with what was kept of the 5% for that.
"""

from __future__ import annotations

from statistics import NormalDist

__all__ = ["START", "going_down", "going_up"]

# The sequence begins at the smallest candidate that is predicted to have so many dB: on nano such lose nothing that
# 1,274 images show (docs/precisions.md: w8 has 26 and is passed, 20 is undecided).
START = 30.0
WRONG = 0.05
# Part of `WRONG` for the way down. The first on the way up has half of the rest, the next half of what is left, and so
# on.
DOWN = 0.04


def going_down() -> float:
    """By what an interval of 95% is multiplied on the way down, whichever candidate it is: 1.05."""
    return _times(DOWN)


def going_up(number: int) -> float:
    """By what it is multiplied of candidate 1, 2, 3, ... on the way up: 1.43, 1.54, 1.65, ... (Bonferroni)."""
    return _times((WRONG - DOWN) / 2**number)


def _times(share: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - share / 2) / normal.inv_cdf(1 - WRONG / 2)
