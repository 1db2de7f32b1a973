"""Comparison of a file's stored tensors with a checkpoint's, by their elements: converters keep neither names nor
axes."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from mobileclip_deploy.artifacts.towers.absorbing import normed_layers, scaled_layers
from mobileclip_deploy.base.files.arrays import Array, Floats
from mobileclip_deploy.network.folding import fold_structure, is_folded
from mobileclip_deploy.network.folding.fold_pass import batch_norm_affine, fold_conv_bn
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.architecture.attention import FeatureMapAttention, SelfAttention
from mobileclip_deploy.network.model.architecture.mobileone import ConvBN
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.foreign_file import StoredConstant
from mobileclip_deploy.verify.audit.tensors import EXACT, State, Stored, correlated, key_of

LEAST = 256
"""Elements of the smallest matrix that is counted."""
SAMPLE = 4096
"""Elements by which the stored tensor of a weight is found; then all are compared."""
FOUND = 0.3
"""Relative distance up to which a tensor is the checkpoint's at all; int4 is within 0.15, other weights are above 1."""
SCALED = 0.01
"""Least difference from 1 of a factor that a converter moves into a weight."""
FACTORS = (0.5**0.5, 2**0.5, 0.5)
"""GELU's, which a rounded matrix may have. The embeddings of float32 files show if any other is right."""
HALF = 2e-3
"""Largest distance of weights that were rounded to float16."""
ROUNDED = (("fp32", EXACT), ("fp16", HALF), ("w8", 0.05), ("w4", FOUND))
"""Precisions by the largest median distance of their weights."""
OTHER = 0.1
"""Largest share of layers that another training may have in common by chance: constant or zero tensors."""
PARTLY = 0.5
"""Share of equal elements from which a vector is the checkpoint's with a change."""

NEAR = 2.0**-10
"""Relative difference up to which elements of vectors are compared further."""
PART, THIRDS = ", ", ("queries", "keys", "values")
"""Separator of a tensor's name and its third, and the thirds of a packed weight, which a file may have apart."""

ByShape = Mapping[tuple[int, ...], Sequence[Stored]]


@dataclass(frozen=True)
class Found:
    """A tensor of a checkpoint in a file.

    Attributes:
        stored: in the checkpoint's order of axes, without axes of one element.
        expected: the checkpoint's elements times `factor`, which the converter moved into them.
        distance: relative.
    """

    stored: Stored
    expected: Floats
    factor: Array
    distance: float
    state: State


@dataclass(frozen=True)
class WeightEvidence:
    """Tensors of a tower that a file holds.

    Attributes:
        form: "folded", "unfolded", or "unfolded, BatchNorms fused".
        tower: the tower in that form.
        matches: matrices within FOUND, by name; `missing`: the others, with their sizes.
        different: names of tensors with elements that are not the checkpoint's.
        shaped: number of matrices for which the file has a tensor of the same shape.
    """

    form: str
    tower: nn.Module
    matches: Mapping[str, Found]
    missing: Mapping[str, tuple[int, ...]]
    different: tuple[str, ...]
    shaped: int

    @property
    def total(self) -> int:
        return len(self.matches) + len(self.missing)

    @property
    def share(self) -> float:
        """Share of the tensors that the file holds."""
        return len(self.matches) / self.total if self.total else 0.0

    @property
    def closeness(self) -> float:
        """Mean of FOUND minus the distance, of missing tensors 0."""
        return sum(FOUND - match.distance for match in self.matches.values()) / max(1, self.total)

    @property
    def median(self) -> float | None:
        """Median distance. None if no tensor was found."""
        return float(np.median([match.distance for match in self.matches.values()])) if self.matches else None

    @property
    def rounding(self) -> str:
        """Precision to which the weights were rounded, however they are stored. A fine-tune's are not rounded."""
        far = [match.stored for match in self.matches.values() if match.distance > HALF]
        if 2 * sum(stored.known and stored.steps is None for stored in far) > len(self.matches):
            return "fp32"
        return next((name for name, most in ROUNDED if (self.median or 0.0) <= most), ROUNDED[-1][0])

    @property
    def otherwise(self) -> tuple[str, ...]:
        """Names of matrices that are rounded, but not to the nearest values."""
        return tuple(name for name, match in self.matches.items() if match.state == "otherwise")

    @property
    def same_architecture(self) -> bool:
        """True if the file has tensors of nearly all shapes."""
        return self.shaped >= 0.8 * self.total


def weight_evidence(model: MobileCLIP, constants: Sequence[StoredConstant]) -> dict[TowerName, WeightEvidence]:
    """Looks for the weights of each tower among a file's constants, folded and unfolded.

    Returns:
        The form that fits best, by tower.
    """
    stored: dict[tuple[int, ...], list[Stored]] = defaultdict(list)
    for index, constant in enumerate(constants):
        stored[key_of(constant.values)].append(Stored.of(index, constant))
    best: dict[TowerName, WeightEvidence] = {}
    vectors: list[tuple[TowerName, str, Floats]] = []
    for tower in model.towers:
        every = [(_evidence(form, stored), form) for form in _forms(getattr(model, tower))]
        # By closeness: a BatchNorm may scale its weights by little enough that both forms are found.
        best[tower], form = max(every, key=lambda each: (each[0].closeness, each[0].shaped))
        flat = ((name.partition(",")[0], value.squeeze()) for name, value in form.tensors.items())
        vectors += [(tower, name, value) for name, value in flat if value.ndim == 1]
    claimed, wrong = _claimed(best), list(_changed_vectors(vectors, stored))
    for searched, evidence in best.items():  # a matrix that nothing else explains is a missing one, changed
        changed = [name for where, name in wrong if where == searched]
        changed += [
            name
            for name, key in evidence.missing.items()
            if any(each.known and each.index not in claimed for each in stored.get(key, ()))
        ]
        best[searched] = replace(evidence, different=tuple(dict.fromkeys((*evidence.different, *changed))))
    return best


def _claimed(evidence: Mapping[TowerName, WeightEvidence]) -> set[int]:
    return {found.stored.index for each in evidence.values() for found in each.matches.values()}


def unclaimed_integers(evidence: Mapping[TowerName, WeightEvidence], constants: Sequence[StoredConstant]) -> int:
    """Returns the number of matrices of integers that are near no tensor."""
    claimed = _claimed(evidence)
    return sum(
        each.scale is not None and each.values.ndim > 1 and index not in claimed for index, each in enumerate(constants)
    )


def with_weights(
    model: MobileCLIP, evidence: Mapping[TowerName, WeightEvidence], chosen: Callable[[Found], Floats | None]
) -> MobileCLIP:
    """Returns a copy of the model with other elements of its matrices; None leaves the checkpoint's."""
    changed = copy.deepcopy(model)
    for tower, each in evidence.items():
        setattr(changed, tower, copy.deepcopy(each.tower))
        parameters = dict(getattr(changed, tower).named_parameters())
        for name, found in each.matches.items():
            if (values := chosen(found)) is not None:
                plain = np.divide(values, found.factor, out=np.zeros(values.shape, np.float32), where=found.factor != 0)
                whole, _, part = name.partition(PART)
                rows = parameters[whole].data
                if part in THIRDS:
                    rows = rows.chunk(3)[THIRDS.index(part)]
                elif part:  # one output of each group
                    index, _, count = part.partition(" of ")
                    rows = rows[int(index) - 1 :: int(count)]
                rows.copy_(torch.from_numpy(plain.reshape(rows.shape)))
    return changed


@dataclass(frozen=True)
class _Form:
    """A tower as a converter may write it: its tensors, the factors that it may move into each, word tables, and the
    outputs per group of depthwise convolutions with several."""

    name: str
    tower: nn.Module
    tensors: Mapping[str, Floats]
    factors: Mapping[str, Sequence[Array]]
    tables: frozenset[str]
    outputs: Mapping[str, int]


def _forms(tower: nn.Module) -> Iterator[_Form]:
    if not is_folded(tower):  # type: ignore[arg-type]
        yield _form("unfolded", tower)
        tower = fold_structure(copy.deepcopy(tower))  # type: ignore[arg-type]
    yield _form("folded", tower)


@torch.no_grad()
def _form(name: str, tower: nn.Module) -> _Form:
    tensors = dict(tower.named_parameters())
    vectors = {name: value for name, value in tower.named_buffers() if value.ndim == 1}
    factors: dict[str, list[torch.Tensor]] = defaultdict(list)
    for layer, module in tower.named_modules():
        if isinstance(module, ConvBN):
            factors[f"{layer}.conv.weight"].append(batch_norm_affine(module.bn)[0].reshape(-1, 1, 1, 1))
            vectors[f"{layer}.bn.bias, fused"] = fold_conv_bn(module)[1]
        elif isinstance(module, FeatureMapAttention | SelfAttention):
            width, size = module.qkv.in_features, module.qkv.in_features / module.heads
            rows = torch.arange(3 * width)[:, None]
            scaled = [torch.where(rows < width, size**-0.5, 1.0), torch.where(rows < 2 * width, size**-0.25, 1.0)]
            factors[f"{layer}.qkv.weight"] += scaled
    for layer, linear, norm in normed_layers(tower):
        before = factors[f"{layer}.weight"]
        before += [norm.weight, *(factor * norm.weight for factor in before)]
        shift = linear.weight @ norm.bias
        vectors[f"{layer}.bias, normed"] = shift if linear.bias is None else linear.bias + shift
    for layer, scaled_layer, scale in scaled_layers(tower):
        factors[f"{layer}.weight"].append(scale.reshape(-1, *[1] * (scaled_layer.weight.ndim - 1)))
        if scaled_layer.bias is not None:
            vectors[f"{layer}.bias, scaled"] = scaled_layer.bias * scale.flatten()
    return _Form(
        name,
        tower,
        {name: value.detach().float().numpy() for name, value in (tensors | vectors).items()},
        {name: [factor.float().numpy() for factor in each] for name, each in factors.items()},
        frozenset(f"{name}.weight" for name, module in tower.named_modules() if isinstance(module, nn.Embedding)),
        {
            f"{name}.weight": module.out_channels // module.groups
            for name, module in tower.named_modules()
            if isinstance(module, nn.Conv2d) and module.out_channels > module.in_channels == module.groups
        },
    )


def _evidence(form: _Form, stored: ByShape) -> WeightEvidence:
    matches: dict[str, Found] = {}
    missing: dict[str, tuple[int, ...]] = {}
    different, shaped = [], 0
    for name, value, factors in _tensors(form, stored):
        candidates = stored.get(key_of(value), ())
        if value.ndim < 2 or value.size < LEAST:
            continue
        shaped += bool(candidates)
        match = _found(value, factors, candidates, name in form.tables)
        found = (
            {name: match} if match is not None else _by_output(name, value, factors, form.outputs.get(name, 1), stored)
        )
        if not found:
            missing[name] = key_of(value)
        matches |= found
        different += [part for part, each in found.items() if each.state == "different"]
    fused = [np.ptp(matches[name].factor) > 0 for name in matches if name.endswith(".conv.weight")]
    name = "unfolded, BatchNorms fused" if form.name == "unfolded" and 2 * sum(fused) > len(fused) else form.name
    return WeightEvidence(name, form.tower, matches, missing, tuple(different), shaped)


def _by_output(name: str, value: Floats, factors: Sequence[Array], count: int, stored: ByShape) -> dict[str, Found]:
    """Returns the tensors of a depthwise convolution that is written as one for each output of a group. Empty if the
    file lacks one."""
    matches: dict[str, Found] = {}
    for index in range(count if count > 1 else 0):
        part, scales = value[index::count], [factor[index::count] for factor in factors]
        match = _found(part, scales, stored.get(key_of(part), ()), is_table=False)
        if match is None:
            return {}
        matches[f"{name}{PART}{index + 1} of {count}"] = match
    return matches


def _tensors(form: _Form, stored: ByShape) -> Iterator[tuple[str, Floats, list[Array]]]:
    """Yields each tensor and its factors, without axes of one element. Queries, keys and values are apart if the file
    has no tensor of all three."""
    for name, value in form.tensors.items():
        factors = [np.broadcast_to(factor, value.shape).squeeze() for factor in form.factors.get(name, ())]
        if name.endswith("qkv.weight") and key_of(value) not in stored:
            parts = [np.split(each, 3) for each in (value, *factors)]
            for part, (third, *each) in zip(THIRDS, zip(*parts, strict=True), strict=True):
                yield f"{name}{PART}{part}", third, each
        else:
            yield name, value.squeeze(), factors


def _found(value: Floats, factors: Sequence[Array], candidates: Sequence[Stored], is_table: bool) -> Found | None:
    """Returns the nearest tensor. None if none is within FOUND."""
    places = np.unravel_index(np.linspace(0, value.size - 1, min(SAMPLE, value.size)).astype(int), value.shape)
    some, best, least = value[places].astype(np.float64), None, FOUND
    ones = np.broadcast_to(np.float32(1), value.shape)
    for turned in (turned for candidate in candidates for turned in candidate.orders(value.shape)):
        if not turned.known:
            options = [(correlated(value, turned.raw, SAMPLE), ones)]
        else:
            b = turned.values[places].astype(np.float64)
            options = []
            for factor in (ones, *factors):
                scaled = some * factor[places]
                options.append((_relative(scaled, b), factor))
                if not is_table and (common := _common(scaled, b, turned)) != 1:
                    options.append((_relative(scaled * common, b), factor * np.float32(common)))
        distance, factor = min(options, key=lambda option: option[0])
        if distance < least:
            best, least = (turned, factor, distance), distance
    if best is None:
        return None
    stored, factor, distance = best
    expected = value if factor is ones else value * factor
    if stored.known:
        distance = _relative(expected, stored.values)
    return Found(stored, expected, factor, distance, stored.state(expected, is_table))


def _relative(a: Array, b: Array) -> float:
    size = float(np.linalg.norm(a))
    if not size or not np.isfinite(b).all():
        return 0.0 if not size and not b.any() else 2.0
    return float(np.linalg.norm(a - b)) / size


def _common(a: Array, b: Array, stored: Stored) -> float:
    """Returns the factor of a whole matrix that a converter moved into it, or 1."""
    factor = float(a @ b) / max(float(a @ a), 1e-30)
    if factor <= 0 or abs(factor - 1) <= SCALED:
        return 1.0
    if stored.raw.dtype == np.float32 and _relative(factor * a, b) <= EXACT:
        return factor
    return next((known for known in FACTORS if abs(factor / known - 1) <= SCALED), 1.0)


def _changed_vectors(
    references: Iterable[tuple[TowerName, str, Floats]], stored: ByShape
) -> Iterator[tuple[TowerName, str]]:
    """Yields tower and name of each vector that is in the file with a change: most elements are equal."""
    fine = {
        key: [each for each in every if each.raw.dtype.kind == "f" or (each.known and each.raw.dtype.itemsize > 2)]
        for key, every in stored.items()
        if len(key) == 1
    }
    rows = {key: np.stack([each.values for each in every]) for key, every in fine.items() if every}
    claimed: set[int] = set()
    others: list[tuple[TowerName, str, list[int]]] = []
    for tower, name, value in references:
        key, inside = value.shape, value != 0
        if key not in rows or np.unique(value[inside]).size <= PARTLY * value.size:  # constants are alike
            continue
        alike = (np.abs(rows[key] - value) <= NEAR * np.abs(value))[:, inside].mean(axis=1) >= PARTLY
        shares = {
            fine[key][row].index: float(np.mean(~fine[key][row].wrong(value)[inside])) for row in np.flatnonzero(alike)
        }
        whole = {index for index, share in shares.items() if share == 1}
        claimed |= whole
        if not whole:
            others.append((tower, name, [index for index, share in shares.items() if share >= PARTLY]))
    yield from ((tower, name) for tower, name, indices in others if not claimed.issuperset(indices))
