"""Which weight of an artifact is which layer's: told by their numbers, since a converter keeps no names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from mobileclip_deploy.artifacts.towers.absorbing import normed_layers, scaled_layers
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.targets.grids.decode import StoredWeight
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.storage import layers

Held = Literal["plain", "scaled", "normed"]
"""How a file has a layer's weight: as it is, or with the layer scale or the norm multiplied into it."""
# Share of a weight's largest number: rounding to float32 of a product with a layer scale, on either side.
ROUNDING = 1e-6
# A number half a step from two others may have gone to either.
TIE = 1e-3
# Share of a number's own size, where scales are float16 and numbers were before they went to a grid: each of these
# roundings moves one by 2^-11 at most, and one that stood in the middle is then twice as far from where it went as from
# its neighbour; and both are float16 again when they are restored.
HALF = 3 * 2**-10
# So many numbers of a weight tell which layer's it is.
SAMPLE = 4096


@dataclass(frozen=True)
class Matched:
    """A layer of the folded tower and the weight of the file that is nearest to it.

    `wanted`: the checkpoint's numbers in the form in which the file has them, [O, I, ...]: as they are, or with the
    layer scale behind them or the norm before them multiplied in (`form`).
    """

    layer: str
    wanted: Floats
    stored: StoredWeight
    form: Held

    @property
    def relative(self) -> float:
        """Relative distance of the stored numbers from the checkpoint's."""
        size = float(np.linalg.norm(self.wanted))
        return float(np.linalg.norm(self.stored.values - self.wanted)) / size if size else 0.0

    def wrong(self, grid: Grid, half: bool) -> str | None:
        """How the stored weight is not the layer's on its grid, in words; None where it is.

        Args:
            half: the numbers were float16 before they were rounded to the grid.
        """
        if (text := self.elsewhere(grid)) is not None:
            return text
        return self.off_its_own(half)

    def elsewhere(self, grid: Grid) -> str | None:
        """That it is stored on a grid of another kind, in words; None where it is not."""
        stored = self.stored
        if stored.kind == grid.kind and stored.bits == grid.bits:
            return None
        return f"is stored as {stored.kind} of {stored.bits} bits, its storage says {grid.describe()}"

    def off_its_own(self, half: bool) -> str | None:
        """How the stored weight is not the layer's on the grid that stands in the file, in words; see `wrong`."""
        stored = self.stored
        # In place: the table of words of a large network has 150 MB.
        room = _apart(stored.nearest(self.wanted), self.wanted)
        room *= 1 + TIE
        room += ROUNDING * float(max(self.wanted.max(initial=0), -self.wanted.min(initial=0)))
        if half:
            room += HALF * np.abs(self.wanted)
        # Negated, so that what is not a number is off.
        off = ~(_apart(stored.values, self.wanted) <= room)
        del room
        if not off.any():
            return None
        outputs = np.unique(np.nonzero(off)[0])
        which = shown_outputs(outputs)
        return f"has {int(off.sum()):,} of {off.size:,} numbers that are not the checkpoint's rounded ({which})"


def matched_weights(module: nn.Module, stored: Sequence[StoredWeight]) -> tuple[list[Matched], list[str]]:
    """Give each layer of a folded tower a weight of a file: one is taken once, the nearest pairs first.

    Returns:
        The layers that were found, and the names of the others.
    """
    wanted: dict[tuple[int, ...], list[tuple[str, Floats, Held]]] = defaultdict(list)
    for name, numbers, form in _forms(module):
        wanted[_rows(numbers)].append((name, numbers, form))
    pairs = []
    for index, weight in enumerate(stored):
        for name, numbers, form in wanted.get(_rows(weight.values), ()):
            # A 1 x 1 convolution [O, I, 1, 1] may stand in the file as a product's weight [O, I].
            as_stored = numbers.reshape(weight.values.shape)
            pairs.append((_distance(weight.values, as_stored), index, name, as_stored, form))
    taken: set[int] = set()
    found: dict[str, Matched] = {}
    for _, index, name, numbers, form in sorted(pairs, key=lambda pair: pair[0]):
        if index not in taken and name not in found:
            taken.add(index)
            found[name] = Matched(name, numbers, stored[index], form)
    names = dict.fromkeys(name for forms in wanted.values() for name, _, _ in forms)
    return [found[name] for name in names if name in found], [name for name in names if name not in found]


def _forms(module: nn.Module) -> Iterator[tuple[str, Floats, Held]]:
    """Every layer's weight as a file may hold it: as it is, and with the layer scale behind it or the norm's weight
    before it multiplied in."""
    scales = {f"{name}.weight": scale for name, _, scale in scaled_layers(module)}
    norms = {f"{name}.weight": norm.weight for name, _, norm in normed_layers(module)}
    for layer in layers(module):
        weight = layer.weight.detach()
        if layer.module is None and not layer.is_large:
            continue  # a mask
        yield layer.parameter, weight.numpy(), "plain"
        if layer.module is None:
            yield layer.parameter, weight.numpy().T, "plain"  # [D, L]; a product's weight is [L, D]
        if layer.parameter in scales:
            scale = scales[layer.parameter].detach().reshape(-1, *[1] * (weight.ndim - 1))
            yield layer.parameter, (weight * scale).numpy(), "scaled"
        if layer.parameter in norms:
            yield layer.parameter, (weight * norms[layer.parameter].detach()).numpy(), "normed"


def shown_outputs(outputs: npt.NDArray[np.intp]) -> str:
    """The first of them, in words."""
    return "outputs " + ", ".join(map(str, outputs[:3])) + (", ..." if len(outputs) > 3 else "")


def _apart(one: Floats, other: Floats) -> Floats:
    """How far numbers are from others, each."""
    apart = one - other
    return np.abs(apart, out=apart)


def _rows(numbers: Floats) -> tuple[int, int]:
    """Number of outputs, and of numbers per output."""
    return numbers.shape[0], numbers[0].size


def _distance(stored: Floats, wanted: Floats) -> float:
    """Relative, over evenly spread numbers; infinite for what is not a number."""
    step = max(1, wanted.size // SAMPLE)
    a, b = stored.reshape(-1)[::step], wanted.reshape(-1)[::step]
    distance = float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-30))
    return distance if np.isfinite(distance) else float("inf")
