"""Comparison of a file's stored tensors with a checkpoint's, by their elements: converters keep neither names nor
axes."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from torch import nn

from mobileclip_deploy.base.files.arrays import Array, Doubles
from mobileclip_deploy.network.folding import fold_structure, is_folded
from mobileclip_deploy.network.folding.fold_pass import batch_norm_affine, fold_conv_bn
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.architecture.mobileone import ConvBN

LEAST = 256
"""Elements of the smallest tensor that is compared."""
SAMPLE = 4096
"""Elements of a tensor that are compared."""
EXACT, HALF = 1e-5, 2e-3
"""Relative distance up to which stored floats, or float16, are the checkpoint's: folded weights round differently."""
FOUND = 0.3
"""Relative distance up to which a tensor is the checkpoint's at all; int4 is within 0.15, other weights are above 1."""
SCALED = 0.01
"""Least difference from 1 of a factor that a converter moves into a weight: GELU's root of 2, attention's scale."""
ROWS = 32
"""Rows that give the factors of columns, and are compared with them."""
ROUNDED = (("fp32", EXACT), ("fp16", HALF), ("w8", 0.05), ("w4", FOUND))
"""Precisions by the largest median distance of their weights."""
OTHER = 0.1
"""Largest share of layers that another training may have in common by chance: constant or zero tensors."""
STEPS, SHARE = 0.55, 0.02
"""Steps from a weight to its rounded one, and the share of a tensor's that may be farther: in files made of float16."""
TABLE = 4
"""Least number of weights for each value that makes the values a table's."""


@dataclass(frozen=True)
class WeightEvidence:
    """Tensors of a tower that a file holds.

    Attributes:
        form: "folded", "unfolded", or "unfolded, BatchNorms fused".
        distances: relative distance by tensor, of those within FOUND; the others are in `missing`.
        inexact: those that differ by more than rounding to the type that stores them.
        shaped: number of tensors for which the file has a tensor of the same shape.
        off_grid: number of stored floats that differ by more than float16's rounding and are on no grid of 8 or 4 bits.
    """

    form: str
    distances: Mapping[str, float]
    missing: tuple[str, ...]
    inexact: tuple[str, ...]
    shaped: int
    off_grid: int = 0

    @property
    def total(self) -> int:
        return len(self.distances) + len(self.missing)

    @property
    def share(self) -> float:
        """Share of the tensors that the file holds."""
        return len(self.distances) / self.total if self.total else 0.0

    @property
    def closeness(self) -> float:
        """Mean of FOUND minus the distance, of missing tensors 0."""
        return sum(FOUND - distance for distance in self.distances.values()) / max(1, self.total)

    @property
    def median(self) -> float | None:
        """Median distance. None if no tensor was found."""
        return float(np.median(list(self.distances.values()))) if self.distances else None

    @property
    def rounding(self) -> str:
        """Precision to which the weights were rounded, however they are stored. A fine-tune's are not rounded."""
        if 2 * self.off_grid > len(self.distances):
            return "fp32"
        return next((name for name, most in ROUNDED if (self.median or 0.0) <= most), ROUNDED[-1][0])

    @property
    def changed(self) -> tuple[str, ...]:
        """Tensors that differ while most are exact."""
        return self.inexact if self.rounding == "fp32" else ()

    @property
    def same_architecture(self) -> bool:
        """True if the file has tensors of nearly all shapes."""
        return self.shaped >= 0.8 * self.total


def weight_evidence(tower: nn.Module, constants: Sequence[tuple[str, Array]]) -> WeightEvidence:
    """Looks for a tower's weights among a file's constants, folded and unfolded. Returns the form that fits best."""
    by_shape: dict[tuple[int, ...], list[Array]] = defaultdict(list)
    for _, values in constants:
        by_shape[_key(values)].append(values)
    every = [_evidence(form, tensors, by_shape) for form, tensors in _forms(tower)]
    # By closeness: a BatchNorm may scale its weights by little enough that both forms are found.
    return max(every, key=lambda evidence: (evidence.closeness, evidence.shaped))


def _forms(tower: nn.Module) -> Iterator[tuple[str, dict[str, Array]]]:
    tensors = {name: value.detach().numpy() for name, value in tower.named_parameters()}
    if is_folded(tower):  # type: ignore[arg-type]
        yield "folded", tensors
        return
    yield "unfolded", tensors
    pairs = {name: pair for name, pair in tower.named_modules() if isinstance(pair, ConvBN)}
    fused = {f"{name}.conv.weight": fold_conv_bn(pair)[0].detach().float().numpy() for name, pair in pairs.items()}
    yield "unfolded, BatchNorms fused", tensors | fused
    folded = fold_structure(copy.deepcopy(tower))  # type: ignore[arg-type]
    yield "folded", {name: value.detach().numpy() for name, value in folded.named_parameters()}


@dataclass(frozen=True)
class Rounded:
    """A model with a file's rounded weights.

    Attributes:
        different: names of tensors that are not the checkpoint's, rounded to the nearest step.
        unknown: number of weights that are near no tensor.
    """

    model: MobileCLIP
    different: tuple[str, ...]
    unknown: int


def with_rounded(model: MobileCLIP, weights: Sequence[tuple[str, Array]]) -> Rounded:
    """Puts a file's rounded weights and their steps, [2, ...] each, into a copy of the model, folded as in the file."""
    every = [(form, tensors, _matched(tensors, weights)) for form, tensors in _forms(model)]
    form, tensors, matched = min(every, key=lambda each: (-len(each[2]), sum(item[0] for item in each[2].values())))
    changed = copy.deepcopy(model)
    changed = fold_structure(changed) if form == "folded" else changed
    named, modules = dict(changed.named_parameters()), dict(changed.named_modules())
    different: list[str] = []
    for name, (_, order, (rounded, steps)) in matched.items():
        value = tensors[name]
        stored, step = (each.squeeze().transpose(order).reshape(value.shape) for each in (rounded, steps))
        if np.mean(np.abs(stored - value) > STEPS * step) > SHARE:
            different.append(name.partition(".")[2])
        pair = modules.get(name.removesuffix(".conv.weight")) if "fused" in form else None
        if isinstance(pair, ConvBN):  # its BatchNorm multiplies once more
            scale = batch_norm_affine(pair.bn)[0].numpy().reshape(-1, 1, 1, 1)
            stored = np.divide(stored, scale, out=np.zeros(stored.shape), where=scale != 0)
        named[name].data = torch.from_numpy(np.ascontiguousarray(stored, np.float32))
    return Rounded(changed, tuple(different), len(weights) - len(matched))


def _matched(
    tensors: Mapping[str, Array], weights: Sequence[tuple[str, Array]]
) -> dict[str, tuple[float, tuple[int, ...], Array]]:
    """Returns the distance, the order of axes, and the weight with its steps, by the name of the nearest tensor."""
    matched: dict[str, tuple[float, tuple[int, ...], Array]] = {}
    for _, both in weights:
        fitting = (
            (distance, name, order)
            for name, value in tensors.items()
            if _key(value) == _key(both[0]) and name not in matched
            for distance, order in _orders(value.squeeze(), both[0].squeeze())
        )
        nearest, name, order = min(fitting, default=(2.0, "", ()))
        if nearest <= FOUND:
            matched[name] = nearest, order, both
    return matched


def _key(values: Array) -> tuple[int, ...]:
    return tuple(sorted(size for size in values.shape if size != 1))


def _evidence(
    form: str, tensors: Mapping[str, Array], stored: Mapping[tuple[int, ...], Sequence[Array]]
) -> WeightEvidence:
    large = {name: value for name, value in tensors.items() if value.size >= LEAST and value.ndim > 1}
    distances, missing, inexact, shaped, off_grid = {}, [], [], 0, 0
    for name, value in large.items():
        candidates = stored.get(_key(value), ())
        shaped += bool(candidates)
        pairs = [(_distance(value.squeeze(), each.squeeze()), index) for index, each in enumerate(candidates)]
        nearest, index = min(pairs, default=(2.0, -1))
        half = bool(pairs) and candidates[index].dtype == np.float16
        if nearest <= FOUND:
            distances[name] = nearest
            inexact += [name] if nearest > (HALF if half else EXACT) else []
            off_grid += nearest > HALF and not _on_grid(candidates[index])
        else:
            missing.append(name)
    return WeightEvidence(form, distances, tuple(missing), tuple(inexact), shaped, off_grid)


def _on_grid(stored: Array) -> bool:
    """Returns whether stored values are integers, values of a table, or in rows or columns multiples of a step."""
    if stored.dtype.kind != "f" or np.unique(stored).size <= stored.size // TABLE:
        return True
    for rows in (stored.reshape(len(stored), -1), stored.reshape(-1, stored.shape[-1]).T):
        some = rows[:32].astype(np.float64)
        low, high = some.min(axis=1, keepdims=True), some.max(axis=1, keepdims=True)
        largest = np.maximum(high, -low)
        for least, step in ((0, largest / 127), (0, largest / 7), (low, (high - low) / 255), (low, (high - low) / 15)):
            steps = (some - least) / np.maximum(step, 1e-30)
            if np.mean(np.abs(steps - np.rint(steps)) < 0.1) > 0.9:
                return True
    return False


def _distance(value: Array, stored: Array) -> float:
    """Returns the relative distance in the best order of axes; of integers up to a scale and an offset per output."""
    return min((distance for distance, _ in _orders(value, stored)), default=2.0)


def _orders(value: Array, stored: Array) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Yields the orders of axes that fit and their distances."""
    measure = _floats if stored.dtype.kind == "f" else _integers
    for order in permutations(range(value.ndim)):
        if (turned := stored.transpose(order)).shape == value.shape:
            yield measure(value, turned), order


def _floats(value: Array, stored: Array) -> float:
    places = np.unravel_index(np.linspace(0, value.size - 1, min(SAMPLE, value.size)).astype(int), value.shape)
    a, b = value[places].astype(np.float64), stored[places].astype(np.float64)
    size = float(np.linalg.norm(a))
    if not size or not np.isfinite(b).all():
        return 0.0 if not size and not b.any() else 2.0
    factor = float(a @ b) / size**2
    if abs(factor - 1) > SCALED and factor and np.linalg.norm(b - factor * a) <= EXACT * size * abs(factor):
        return float(np.linalg.norm(b / factor - a)) / size
    distance = float(np.linalg.norm(a - b)) / size
    if distance > SCALED and value.ndim == 2 and min(value.shape) > ROWS:
        distance = min(distance, _up_to_columns(value, stored), _up_to_columns(value.T, stored.T))
    return distance


def _up_to_columns(value: Array, stored: Array) -> float:
    """Returns the relative distance up to a factor for each column: LiteRT's converter multiplies a weight by the scale
    of the LayerNorm before it."""
    rows = np.linspace(0, len(value) - 1, ROWS).astype(int)
    a, b = value[rows].astype(np.float64), stored[rows].astype(np.float64)
    factors = (a * b).sum(axis=0) / np.maximum((a * a).sum(axis=0), 1e-30)
    distance = float(np.linalg.norm(b - factors * a)) / max(float(np.linalg.norm(b)), 1e-30)
    return distance if distance <= EXACT else 2.0


def _integers(value: Array, stored: Array) -> float:
    rows = np.linspace(0, len(value) - 1, min(32, len(value))).astype(int)
    a, b = (_centred(each[rows].reshape(len(rows), -1)[:, :SAMPLE]) for each in (value, stored))
    correlation = float(np.median((a * b).sum(axis=1)))
    return float(np.sqrt(max(0.0, 1 - correlation**2))) if correlation > 0 else 2.0


def _centred(rows: Array) -> Doubles:
    rows = rows.astype(np.float64) - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
