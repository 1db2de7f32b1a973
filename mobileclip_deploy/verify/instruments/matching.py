"""Assignment of an artifact's weights to the layers of a tower, by their elements, since a converter keeps no names."""

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

WeightForm = Literal["plain", "scaled", "normed"]
"""Form of a layer's weight in a file: unchanged, or with the layer scale or the norm multiplied in."""
# Share of a weight's largest element: float32 rounding of a product with a layer scale, on either side.
ROUNDING = 1e-6
# An element half a step from two steps may be rounded to either.
TIE = 1e-3
# Share of an element's own size, for float16 scales and elements that were float16 before rounding to a grid. Three
# float16 roundings of 2^-11 each; the last two can push a tie to the other side.
HALF = 3 * 2**-10
# Elements of a weight that are compared to find its layer.
SAMPLE = 4096


@dataclass(frozen=True)
class Matched:
    """A layer of the folded tower and the nearest weight of the file.

    `wanted`: the checkpoint's elements in the file's form (`form`), [O, I, ...]: unchanged, with the layer scale after
    them or the norm before them multiplied in.
    """

    layer: str
    wanted: Floats
    stored: StoredWeight
    form: WeightForm

    @property
    def relative(self) -> float:
        """Relative distance of the stored elements from the checkpoint's."""
        size = float(np.linalg.norm(self.wanted))
        return float(np.linalg.norm(self.stored.values - self.wanted)) / size if size else 0.0

    def wrong(self, grid: Grid, half: bool) -> str | None:
        """Returns the difference between the stored weight and the layer's weight on its grid, in words. None if they
        agree.

        Args:
            half: the elements were float16 before they were rounded to the grid.
        """
        return self.other_grid(grid) or self.off_stored_grid(half)

    def other_grid(self, grid: Grid) -> str | None:
        """Returns a text if the weight is stored on a grid of another kind. None otherwise."""
        stored = self.stored
        if stored.kind == grid.kind and stored.bits == grid.bits:
            return None
        return f"is stored as {stored.kind} of {stored.bits} bits, expected {grid.describe()}"

    def off_stored_grid(self, half: bool) -> str | None:
        """Returns the difference between the stored weight and the layer's weight on the grid in the file; see
        `wrong`."""
        stored = self.stored
        # In place: the word table of a large network has 150 MB.
        room = _apart(stored.nearest(self.wanted), self.wanted)
        room *= 1 + TIE
        room += ROUNDING * float(max(self.wanted.max(initial=0), -self.wanted.min(initial=0)))
        if half:
            room += HALF * np.abs(self.wanted)
        # Negated, so that NaN counts as off.
        off = ~(_apart(stored.values, self.wanted) <= room)
        del room
        if not off.any():
            return None
        outputs = np.unique(np.nonzero(off)[0])
        which = shown_outputs(outputs)
        return f"has {int(off.sum()):,} of {off.size:,} elements that are not the checkpoint's, rounded ({which})"


def matched_weights(module: nn.Module, stored: Sequence[StoredWeight]) -> tuple[list[Matched], list[str]]:
    """Assigns each layer of a folded tower a weight of a file. Each weight is used once, the nearest pairs first.

    Returns:
        The layers with a weight, and the names of the others.
    """
    candidates: dict[tuple[int, ...], list[tuple[str, Floats, WeightForm]]] = defaultdict(list)
    for name, values, form in _forms(module):
        candidates[len(values), values[0].size].append((name, values, form))
    pairs = []
    for index, weight in enumerate(stored):
        for name, values, form in candidates.get((len(weight.values), weight.values[0].size), ()):
            # A 1 x 1 convolution [O, I, 1, 1] may be a product's weight [O, I] in the file.
            as_stored = values.reshape(weight.values.shape)
            pairs.append((_distance(weight.values, as_stored), index, name, as_stored, form))
    used: set[int] = set()
    matches: dict[str, Matched] = {}
    for _, index, name, values, form in sorted(pairs, key=lambda pair: pair[0]):
        if index not in used and name not in matches:
            used.add(index)
            matches[name] = Matched(name, values, stored[index], form)
    names = dict.fromkeys(name for forms in candidates.values() for name, _, _ in forms)
    return [matches[name] for name in names if name in matches], [name for name in names if name not in matches]


def _forms(module: nn.Module) -> Iterator[tuple[str, Floats, WeightForm]]:
    """Yields every layer's weight in each form that a file may use: unchanged, with the layer scale after it, and with
    the norm's weight before it multiplied in."""
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
    """Returns the first outputs in words."""
    return "outputs " + ", ".join(map(str, outputs[:3])) + (", ..." if len(outputs) > 3 else "")


def _apart(one: Floats, other: Floats) -> Floats:
    apart = one - other
    return np.abs(apart, out=apart)


def _distance(stored: Floats, wanted: Floats) -> float:
    """Returns the relative distance over evenly spaced elements; infinite for NaN."""
    step = max(1, wanted.size // SAMPLE)
    a, b = stored.reshape(-1)[::step], wanted.reshape(-1)[::step]
    distance = float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-30))
    return distance if np.isfinite(distance) else float("inf")
