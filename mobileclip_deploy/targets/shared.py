"""What conversions of one tower have in common, whatever their precision: made for the first, kept for the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Shared"]

T = TypeVar("T")


class Shared:
    """Kept by whoever converts the same module with the same options more than once, such as an artifact and its
    float32 twin; given to each of their jobs.

    What is kept may hold another copy of the weights, so it is dropped as soon as nothing more is converted.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def of(self, what: str, make: Callable[[], T]) -> T:
        """What `make` gave the first time; nobody may change it."""
        if what not in self._made:
            self._made[what] = make()
        return self._made[what]

    def drop(self) -> None:
        """Keep nothing more."""
        self._made.clear()
