"""What an artifact rounds to integers by a step and a zero point that stand in the file: activations, and biases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Flow", "RoundedFile", "RoundedValue"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RoundedValue:
    """A value that a file computes and rounds: `(integer - zero_point) * restored` is what is left of it.

    Attributes:
        name: of the integers in the file.
        source: what the file calls the value before it is rounded.
        takers: the results of the operations that take it rounded, where others take it as it was or otherwise
            rounded; none where everything that takes it takes it so.
        scale, zero_point: the step by which it is rounded and the integer that stands for 0, as they stand in the file.
        least, most: the integers that there are.
        restored: the step by which it is restored: `scale`, up to a rounding of the file's own.
    """

    name: str
    source: str
    takers: tuple[str, ...]
    scale: float
    zero_point: int
    least: int
    most: int
    restored: float

    @property
    def low(self) -> float:
        """The least number that is left as it is."""
        return (self.least - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The greatest number that is left as it is."""
        return (self.most - self.zero_point) * self.scale


class RoundedFile(ABC):
    """An artifact that rounds activations, loaded to be followed from one rounding to the next.

    Attributes:
        values: what it rounds, in its order.
        bias_steps: of the layers whose biases are whole steps, [outputs], by the name of their `StoredWeight`.
        engine: what runs it.
    """

    values: tuple[RoundedValue, ...]
    bias_steps: Mapping[str, Floats]
    engine: str

    @abstractmethod
    def plain(self, row: npt.NDArray[np.generic]) -> Mapping[str, Floats]:
        """Every `source` and taker for one input [1, ...], where nothing is rounded but what stands in the file."""

    @abstractmethod
    def rounded(self, row: npt.NDArray[np.generic]) -> tuple[Floats, Mapping[str, npt.NDArray[Any]]]:
        """The answer [1, D] to one input, and the integers of every value."""


@dataclass
class Flow:
    """How values of a file become others, by name, roundings left out.

    Attributes:
        same: a value that is another one in another shape or type -> that one.
        takers: a value -> what operations compute from it.
        results: what the file answers with.
    """

    results: frozenset[str]
    same: dict[str, str] = field(default_factory=dict)
    takers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def reshape(self, source: str, result: str) -> None:
        """Note an operation that changes no number."""
        self.same[result] = source

    def compute(self, sources: Iterable[str], result: str) -> None:
        """Note any other."""
        for source in sources:
            self.takers[source].append(result)

    def taking(self, source: str, restored: str, alone: bool = True) -> tuple[str, ...]:
        """Whatever takes a value rounded; none where everything that takes it does.

        Args:
            source: the value that is rounded.
            restored: what becomes of it, in which it is rounded.
            alone: nothing else is restored from its integers.
        """
        origin = source
        while origin in self.same:
            origin = self.same[origin]
        return self._reached(restored) if self._reached(origin) or not alone else ()

    def _reached(self, value: str) -> tuple[str, ...]:
        """What is computed from a value in whatever shape; an answer of the file is taken by whoever asked."""
        waiting, seen = [value], dict[str, None]()
        while waiting:
            name = waiting.pop()
            seen[name] = None
            waiting += [shaped for shaped, source in self.same.items() if source == name and shaped not in seen]
        taking = [taker for name in seen for taker in self.takers.get(name, ())]
        return tuple(dict.fromkeys([*taking, *(name for name in seen if name in self.results)]))
