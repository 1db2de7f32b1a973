"""A tower in torch that quantizes the same activations as an artifact, with the artifact's scales.

Converters keep no names, so a value of the file is located in torch by its elements: without rounding both sides
compute the same. Rounding is chaotic. An element in the middle of two steps may go to either, depending on the order of
a sum. After a hundred further roundings, that one step has moved every other element by one. So torch takes the file's
integer for such ties, and rounds all other elements itself.
"""

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

# Relative deviation of a file's value from torch's: both are float32 arithmetic.
SAME = 1e-3
# Relative tolerance of sums over all elements, which quickly exclude different values.
SUMS = 1e-2
# Distance from the middle of two steps, in steps, within which an element may go to either.
TIE = 0.05


@dataclass(frozen=True)
class Location:
    """Location of a file's value in torch: result `index` of an operation, or its argument `index` if `is_argument`.

    `operation`: index of the operation; -1 for the tower's own input. `order`: permutation of the file's dimensions,
    without those of size 1, that gives torch's order.
    """

    operation: int
    index: int
    is_argument: bool
    order: tuple[int, ...]


class _Followed(TorchFunctionMode):
    """Every torch call, numbered in the order of the calls. Its arguments and results may be replaced.

    It counts calls and not kernels, since kernels depend on the memory layout of a tensor.
    """

    def __init__(
        self,
        on_arguments: Callable[[int, list[Any]], list[Any]],
        on_results: Callable[[int, list[Any], list[Any]], list[Any]],
    ) -> None:
        super().__init__()
        self._on_arguments, self._on_results, self._next = on_arguments, on_results, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation, self._next = self._next, self._next + 1
        arguments = self._on_arguments(operation, list(args))
        result = func(*arguments, **(kwargs or {}))
        if isinstance(result, (tuple, list)):
            return type(result)(self._on_results(operation, list(result), arguments))
        return self._on_results(operation, [result], arguments)[0]


@dataclass
class _Sought:
    """A value of the file to be located, and its best location so far."""

    values: Floats
    sums: tuple[float, float]
    distance: float = SAME
    location: Location | None = None
    arguments: list[Any] | None = None
    """Arguments of the operation that computes it."""


def locate_values(
    module: nn.Module, row: Tensor, plain: Mapping[str, Floats], values: Sequence[QuantizedValue]
) -> tuple[list[tuple[Location, ...]], list[str]]:
    """Locates the values that a file quantizes in a tower.

    Args:
        module: the tower with the weights of the file.
        row: one input.
        plain: the file's values for this input, with nothing rounded.

    Returns:
        The locations of each value in torch, and the sources of values that torch does not compute.
    """
    used_as_arguments = {name for value in values for name in value.takers}
    targets = {name: _Sought(numbers, _sums(torch.from_numpy(numbers))) for name, numbers in plain.items()}

    def on_results(operation: int, results: list[Any], arguments: list[Any]) -> list[Any]:
        for index, result in enumerate(results):
            if isinstance(result, Tensor) and result.is_floating_point():
                for name in _equal_sums(targets, result):
                    # Later results with the same elements are the same value in another shape.
                    arrangement, target = _arrangement(targets[name].values, result), targets[name]
                    if arrangement is not None and arrangement[0] < target.distance / 2:
                        target.distance, target.location = (
                            arrangement[0],
                            Location(operation, index, False, arrangement[1]),
                        )
                        target.arguments = arguments if name in used_as_arguments else None
        return results

    on_results(-1, [row], [])
    with torch.no_grad(), _Followed(lambda _, arguments: arguments, on_results):
        module(row)
    locations: list[tuple[Location, ...]] = []
    missing = []
    for value in values:
        if value.takers:
            found_at = [_argument(targets[name], targets[value.source].values) for name in value.takers]
        else:
            found_at = [targets[value.source].location]
        locations.append(tuple(dict.fromkeys(location for location in found_at if location is not None)))
        if None in found_at:
            missing.append(value.source)
    return locations, [*dict.fromkeys(missing)]


def _equal_sums(sought: Mapping[str, _Sought], result: Tensor) -> list[str]:
    names = [name for name, target in sought.items() if target.values.size == result.numel()]
    if not names:
        return []
    sums = _sums(result)
    return [name for name in names if np.allclose(sought[name].sums, sums, rtol=SUMS, atol=0)]


def _sums(values: Tensor) -> tuple[float, float]:
    return float(values.abs().sum(dtype=torch.float64)), float(values.square().sum(dtype=torch.float64))


def _arrangement(values: Floats, result: Tensor) -> tuple[float, tuple[int, ...]] | None:
    """Returns the relative distance of a file's value from torch's, and the permutation that aligns them. None if they
    differ."""
    shape, numbers = tuple(result.shape), result.detach().double().numpy()
    size, squeezed = float(np.linalg.norm(numbers)), values.squeeze()
    best: tuple[float, tuple[int, ...]] | None = None
    for order in permutations(range(squeezed.ndim)):
        distance = float(np.linalg.norm(squeezed.transpose(order).reshape(shape) - numbers)) / max(size, 1e-30)
        if distance < SAME and (best is None or distance < best[0]):
            best = distance, order
    return best


def _argument(consumer: _Sought, values: Floats) -> Location | None:
    best: tuple[float, Location] | None = None
    for index, argument in enumerate(consumer.arguments or ()):
        if isinstance(argument, Tensor) and argument.is_floating_point() and argument.numel() == values.size:
            arrangement = _arrangement(values, argument)
            if arrangement is not None and consumer.location is not None and (best is None or arrangement[0] < best[0]):
                best = arrangement[0], Location(consumer.location.operation, index, True, arrangement[1])
    return None if best is None else best[1]


class QuantizedTower:
    """A tower that quantizes the same values as a file.

    Attributes:
        off: number of elements, by quantized value, whose integer differs from the file's although it is no tie.
        total: number of all elements, by quantized value.
    """

    def __init__(
        self, module: nn.Module, values: Sequence[QuantizedValue], locations: Sequence[tuple[Location, ...]]
    ) -> None:
        self._module = module
        self._at: dict[tuple[int, bool], list[tuple[QuantizedValue, Location]]] = defaultdict(list)
        for value, where in zip(values, locations, strict=True):
            for location in where:
                self._at[location.operation, location.is_argument].append((value, location))
        self.off: dict[str, int] = {value.source: 0 for value in values}
        self.total = dict(self.off)

    def __call__(self, row: Tensor, integers: Mapping[str, npt.NDArray[Any]]) -> Tensor:
        """Returns the answer to one input. `integers`: the file's quantized values for this input."""

        def quantized(value: QuantizedValue, location: Location, exact: Tensor) -> Tensor:
            steps = (exact / value.scale + value.zero_point).clamp(value.least, value.most)
            arranged = integers[value.name].squeeze().transpose(location.order).reshape(tuple(exact.shape))
            theirs = torch.from_numpy(arranged.astype(np.float64)).to(steps)
            tie = (theirs - steps).abs() <= 0.5 + TIE
            self.off[value.source] += int((~tie).sum())
            self.total[value.source] += tie.numel()
            return (torch.where(tie, theirs, steps.round()) - value.zero_point) * value.restored

        return self._run(row, quantized)

    def exact(self, row: Tensor) -> dict[str, Floats]:
        """Returns the values that the file quantizes, by name, as torch computes them without quantization."""
        collected: dict[str, Floats] = {}

        def collect(value: QuantizedValue, _: Location, exact: Tensor) -> Tensor:
            collected.setdefault(value.name, exact.float().numpy())
            return exact

        self._run(row, collect)
        return collected

    def _run(self, row: Tensor, at: Callable[[QuantizedValue, Location, Tensor], Tensor]) -> Tensor:
        def on_arguments(operation: int, arguments: list[Any]) -> list[Any]:
            for value, location in self._at.get((operation, True), ()):
                arguments[location.index] = at(value, location, arguments[location.index])
            return arguments

        def on_results(operation: int, results: list[Any], _: list[Any]) -> list[Any]:
            for value, location in self._at.get((operation, False), ()):
                results[location.index] = at(value, location, results[location.index])
            return results

        (row,) = on_results(-1, [row], [])
        with torch.no_grad(), _Followed(on_arguments, on_results):
            answer: Tensor = self._module(row)
        return answer
