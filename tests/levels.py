"""The two levels of tests: `make test` proves every promise once, `make test-all` runs every case there is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

__all__ = ["once"]


def once(cases: Iterable[Any], one_per: Callable[..., Hashable] = lambda *_: None) -> list[ParameterSet]:
    """Parameters of a test. The first case of every group runs in `make test`; the others are marked `whole`.

    Args:
        cases: values, tuples of values, or what `pytest.param` gives.
        one_per: takes a case's values and gives its group; without it all cases are one group.
    """
    seen: set[Hashable] = set()
    marked = []
    for case in cases:
        given = ParameterSet.extract_from(case, force_tuple=not isinstance(case, tuple))
        group = one_per(*given.values)
        marks = (*given.marks, pytest.mark.whole) if group in seen else given.marks
        marked.append(pytest.param(*given.values, marks=marks, id=given.id))
        seen.add(group)
    return marked
