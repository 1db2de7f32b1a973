"""A tower in torch that quantizes its activations where an artifact does, by the steps that stand in the artifact.

No converter keeps names, so a value of the file is found in torch by its numbers: with nothing rounded both compute the
same. And rounding is chaotic: a number in the middle of two steps goes to either, by the order in which a sum was
taken, and behind a hundred roundings that one step has moved every other number by one. So torch leaves such a number
where the file has put it; what is no tie it rounds itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.targets.quantized import QuantizedValue

# Relative, of a file's value from the one of torch that it is: both are float32 arithmetic.
SAME = 1e-3
# Relative tolerance of the sums over all numbers, which tell at once what cannot be the same.
SUMS = 1e-2
# A number so near to the middle of two steps, in steps, may have gone to either.
TIE = 0.05


@dataclass(frozen=True)
class Site:
    """Where torch computes a value of a file: result number `index` of an operation, or, `taken`, what that operation
    takes as argument number `index`. `order`: of the file's dimensions without those of 1, to have torch's order.

    `operation`: its number; -1: what the tower itself takes.
    """

    operation: int
    index: int
    taken: bool
    order: tuple[int, ...]


class _Followed(TorchFunctionMode):
    """Every call of torch, numbered in the order in which they are made; what it takes and gives may be replaced.

    Of calls, not of kernels: which kernels there are depends on how a tensor lies in memory.
    """

    def __init__(
        self,
        took: Callable[[int, list[Any]], list[Any]],
        gave: Callable[[int, list[Any], list[Any]], list[Any]],
    ) -> None:
        super().__init__()
        self._took, self._gave, self._number = took, gave, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        number, self._number = self._number, self._number + 1
        taken = self._took(number, list(args))
        result = func(*taken, **(kwargs or {}))
        if isinstance(result, (tuple, list)):
            return type(result)(self._gave(number, list(result), taken))
        return self._gave(number, [result], taken)[0]


@dataclass
class _Wanted:
    """A value of the file that is looked for, and where it was found so far."""

    values: Floats
    sums: tuple[float, float]
    distance: float = SAME
    place: Site | None = None
    taken: list[Any] | None = None
    """What the operation that computes it took."""


def found_sites(
    module: nn.Module, row: Tensor, plain: Mapping[str, Floats], values: Sequence[QuantizedValue]
) -> tuple[list[tuple[Site, ...]], list[str]]:
    """Where a tower computes what a file quantizes.

    Args:
        module: the tower with the weights of the file.
        row: one input.
        plain: what the file computes from it, with nothing rounded.

    Returns:
        Of each value the sites in torch where it is quantized; and the sources of those that torch does not compute.
    """
    taken_apart = {name for value in values for name in value.takers}
    wanted = {name: _Wanted(numbers, _sums(torch.from_numpy(numbers))) for name, numbers in plain.items()}

    def gave(number: int, results: list[Any], taken: list[Any]) -> list[Any]:
        for index, result in enumerate(results):
            if isinstance(result, Tensor) and result.is_floating_point():
                for name in _alike(wanted, result):
                    # What comes later with the same numbers is the same value in another shape.
                    found, known = _arrangement(wanted[name].values, result), wanted[name]
                    if found is not None and found[0] < known.distance / 2:
                        known.distance, known.place = found[0], Site(number, index, False, found[1])
                        known.taken = taken if name in taken_apart else None
        return results

    gave(-1, [row], [])
    with torch.no_grad(), _Followed(lambda _, taken: taken, gave):
        module(row)
    places: list[tuple[Site, ...]] = []
    missing = []
    for value in values:
        if value.takers:
            found = [_argument(wanted[name], wanted[value.source].values) for name in value.takers]
        else:
            found = [wanted[value.source].place]
        places.append(tuple(dict.fromkeys(place for place in found if place is not None)))
        if None in found:
            missing.append(value.source)
    return places, [*dict.fromkeys(missing)]


def _alike(wanted: Mapping[str, _Wanted], result: Tensor) -> list[str]:
    """What has as many numbers, and about the same sums."""
    names = [name for name, known in wanted.items() if known.values.size == result.numel()]
    if not names:
        return []
    sums = _sums(result)
    return [name for name in names if np.allclose(wanted[name].sums, sums, rtol=SUMS, atol=0)]


def _sums(values: Tensor) -> tuple[float, float]:
    """Sums of the numbers' absolute values, and of their squares."""
    return float(values.abs().sum(dtype=torch.float64)), float(values.square().sum(dtype=torch.float64))


def _arrangement(values: Floats, result: Tensor) -> tuple[float, tuple[int, ...]] | None:
    """How a file's numbers are turned to lie as torch's do, and how far they are then, relative; None if they are not
    the same numbers."""
    shape, numbers = tuple(result.shape), result.detach().double().numpy()
    size, squeezed = float(np.linalg.norm(numbers)), values.squeeze()
    best: tuple[float, tuple[int, ...]] | None = None
    for order in permutations(range(squeezed.ndim)):
        distance = float(np.linalg.norm(squeezed.transpose(order).reshape(shape) - numbers)) / max(size, 1e-30)
        if distance < SAME and (best is None or distance < best[0]):
            best = distance, order
    return best


def _argument(taker: _Wanted, values: Floats) -> Site | None:
    """Which argument of an operation is the value."""
    best: tuple[float, Site] | None = None
    for index, given in enumerate(taker.taken or ()):
        if isinstance(given, Tensor) and given.is_floating_point() and given.numel() == values.size:
            found = _arrangement(values, given)
            if found is not None and taker.place is not None and (best is None or found[0] < best[0]):
                best = found[0], Site(taker.place.operation, index, True, found[1])
    return None if best is None else best[1]


class QuantizedTower:
    """A tower that quantizes what a file quantizes.

    Attributes:
        off: by what is quantized, of how many of its numbers torch has left another integer than the file, no
            tie among them; and how many numbers there were.
    """

    def __init__(self, module: nn.Module, values: Sequence[QuantizedValue], places: Sequence[tuple[Site, ...]]) -> None:
        self._module = module
        self._at: dict[tuple[int, bool], list[tuple[QuantizedValue, Site]]] = defaultdict(list)
        for value, where in zip(values, places, strict=True):
            for place in where:
                self._at[place.operation, place.taken].append((value, place))
        self.off: dict[str, int] = {value.source: 0 for value in values}
        self.total = dict(self.off)

    def __call__(self, row: Tensor, integers: Mapping[str, npt.NDArray[Any]]) -> Tensor:
        """The answer to one input, where `integers` are what the file has quantized it to."""

        def quantized(value: QuantizedValue, place: Site, exact: Tensor) -> Tensor:
            steps = (exact / value.scale + value.zero_point).clamp(value.least, value.most)
            arranged = integers[value.name].squeeze().transpose(place.order).reshape(tuple(exact.shape))
            theirs = torch.from_numpy(arranged.astype(np.float64)).to(steps)
            tie = (theirs - steps).abs() <= 0.5 + TIE
            self.off[value.source] += int((~tie).sum())
            self.total[value.source] += tie.numel()
            return (torch.where(tie, theirs, steps.round()) - value.zero_point) * value.restored

        return self._run(row, quantized)

    def exact(self, row: Tensor) -> dict[str, Floats]:
        """What the file quantizes, by name, as torch has it where nothing is quantized."""
        found: dict[str, Floats] = {}

        def kept(value: QuantizedValue, _: Site, exact: Tensor) -> Tensor:
            found.setdefault(value.name, exact.float().numpy())
            return exact

        self._run(row, kept)
        return found

    def _run(self, row: Tensor, at: Callable[[QuantizedValue, Site, Tensor], Tensor]) -> Tensor:
        def took(number: int, taken: list[Any]) -> list[Any]:
            for value, place in self._at.get((number, True), ()):
                taken[place.index] = at(value, place, taken[place.index])
            return taken

        def gave(number: int, results: list[Any], _: list[Any]) -> list[Any]:
            for value, place in self._at.get((number, False), ()):
                results[place.index] = at(value, place, results[place.index])
            return results

        (row,) = gave(-1, [row], [])
        with torch.no_grad(), _Followed(took, gave):
            answer: Tensor = self._module(row)
        return answer
