"""Verdict on one tower of a foreign file, from its embeddings and from its stored weights."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mobileclip_deploy.base.files.arrays import Array, Floats
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.foreign_file import StoredConstant
from mobileclip_deploy.verify.audit.batches import batch_mistake
from mobileclip_deploy.verify.audit.conventions import Convention, ImageConvention
from mobileclip_deploy.verify.audit.outputs import name_mistake
from mobileclip_deploy.verify.audit.report import (
    ForeignTower,
    InputConvention,
    Length,
    OutputConvention,
    Verdict,
    WeightsFound,
)
from mobileclip_deploy.verify.audit.tower_search import TowerSearch
from mobileclip_deploy.verify.audit.trials import Trial, distances
from mobileclip_deploy.verify.audit.weights import OTHER, Found, WeightEvidence, unclaimed_integers, with_weights

HALF = 2.0**13
"""Ratio of float16's rounding to float32's."""
SAME_LENGTH = 0.02
"""Largest relative difference of lengths from their median that still makes one factor."""
LOOSER = 1.5
"""Ratio of losses up to which a rounding is as good as that to the nearest values: learned ones are better."""
OTHERWISE = ", rounded otherwise"
MOST = 20
"""Names of different weights in a report."""
NAMED = {"float32": "fp32", "float64": "fp32", "float16": "fp16", "bfloat16": "fp16", "int8": "w8a8", "uint8": "w8a8"}


def stored_precision(constants: Iterable[StoredConstant]) -> str:
    """Returns the precision that holds most elements of a file's constants."""
    sizes = Counter[str]()
    for constant in constants:
        sizes[NAMED.get(constant.values.dtype.name, "")] += constant.values.size
    sizes.pop("", None)
    return max(sizes, key=lambda name: sizes[name], default="fp32")


def judged(
    search: TowerSearch,
    match: Trial,
    constants: Sequence[StoredConstant],
    evidences: Mapping[TowerName, WeightEvidence],
) -> ForeignTower:
    """Returns the verdict on the tower that was searched; `evidences`: of all towers in the file's constants."""
    file, roles, evidence = search.file, search.roles, evidences[search.tower]
    convention: Convention = match.form[0]
    index = roles.image if isinstance(convention, ImageConvention) else roles.ids
    assert index is not None
    port = file.inputs[index]
    half = ["fp16"] if port.dtype == "float16" else []  # pixels are rounded on their way in
    precisions = (stored_precision(constants), evidence.rounding, *half)
    # The coarsest one: quantized activations are coarser than weights of the same bits.
    precision = min(precisions, key=lambda name: (precision_of(name).bits, not precision_of(name).calibrated))
    bound, floor, changed = _bound(precision, search.floor), search.floor, evidence.different
    if evidence.otherwise and not _rounded_well(search, evidences):
        changed += evidence.otherwise
    clean = _from_clean(search, match)
    verdict: Verdict = "differs" if changed or clean > bound else "same"
    alone, alone_match, alone_bound = search, match, bound
    if floor < clean <= bound:
        sharper = _sharper(search, match, constants, evidences)
        if sharper is None:
            match = search.partly(match) or match
        else:
            alone, alone_match, alone_bound = sharper.search, sharper.match, sharper.bound
            if sharper.wrong:
                match, clean, verdict = sharper.match, sharper.clean, "differs"
                bound, floor = sharper.bound, sharper.floor
    cause, cause_text = "", ""
    for mistake in match.recipe.values() if clean > floor else ():
        verdict, cause, cause_text = "defect", mistake.name, mistake.of_file or mistake.text
    if verdict == "same" and (batch := batch_mistake(alone, alone_match, alone_bound)) is not None:
        verdict, cause, cause_text, clean = "defect", batch.name, batch.text, max(clean, batch.distance)
    if verdict == "same" and (named := name_mistake(alone, alone_match, alone_bound)) is not None:
        verdict, (cause, cause_text) = "defect", named
    if verdict == "differs" and evidence.share <= OTHER:
        verdict = "other weights" if evidence.same_architecture else "other network"
    elif verdict == "differs" and (size := match.rows.shape[1]) != (expected := match.ours.shape[1]):
        what = "class probabilities" if np.allclose(match.rows.sum(axis=1), 1, atol=SAME_LENGTH) else "values"
        cause, cause_text = "no-embedding", f"the output has {size} {what} instead of an embedding of {expected}"
    return ForeignTower(
        file=file.path.name,
        tower=search.tower,
        verdict=verdict,
        input=InputConvention(
            name=port.name,
            shape=port.shape,
            form=convention.describe(),
            convention=convention,
            also=tuple(other.describe() for other in match.others),
        ),
        output=_output(search, match),
        precision=precision,
        weights=WeightsFound(
            form=evidence.form + (OTHERWISE if evidence.otherwise and verdict == "same" else ""),
            found=len(evidence.matches),
            total=evidence.total,
            median=evidence.median,
            different=changed[:MOST],
        ),
        distance=clean,
        bound=bound,
        inputs=len(match.rows),
        cause=cause or None,
        cause_text=cause_text or None,
        explained=match.distance if verdict == "defect" and match.recipe else None,
    )


def _from_clean(search: TowerSearch, match: Trial) -> float:
    """Returns the distance from the checkpoint's own network."""
    return float(distances(match.rows, search.clean).max())


@dataclass(frozen=True)
class _Sharper:
    """Comparison without rounding: the file's activations are not rounded, and the network has its rounded weights.

    Attributes:
        search: of the file without that rounding, by that network.
        clean: distance from that network.
        bound, floor: of distances in float32.
    """

    search: TowerSearch
    match: Trial
    clean: float
    bound: float
    floor: float

    @property
    def wrong(self) -> bool:
        return self.clean > (self.floor if self.match.recipe else self.bound)


def _sharper(
    search: TowerSearch,
    match: Trial,
    constants: Sequence[StoredConstant],
    evidences: Mapping[TowerName, WeightEvidence],
) -> _Sharper | None:
    """Compares the tower without rounding. Returns None if that cannot be done, or proves nothing."""
    if not search.file.rounds:
        return None
    model = with_weights(
        search.model, evidences, lambda each: None if each.stored.scale is None else each.stored.values
    )
    again = replace(search, file=search.file.unrounded(), model=model, conventions=[match.form[0]], ran={})
    try:
        best = again.search()
    except NotRun:  # its integers are scaled in a way of its own
        return None
    if unclaimed_integers(evidences, constants) and not best.recipe:  # a converter may have multiplied weights
        if (partly := again.partly(best)) is None:
            return None
        best = partly
    return _Sharper(again, best, _from_clean(again, best), _bound("fp32", again.floor), again.floor)


def _rounded_well(search: TowerSearch, evidences: Mapping[TowerName, WeightEvidence]) -> bool:
    """Returns whether weights that were rounded otherwise lose about as little as the nearest ones of their grids."""

    def loss(values: Callable[[Found], Floats]) -> float:
        model = with_weights(search.model, evidences, lambda each: values(each) if each.state == "otherwise" else None)
        return float(distances(replace(search, model=model).clean, search.clean).max())

    own, nearest = (
        loss(values) for values in (lambda each: each.stored.values, lambda each: each.stored.nearest(each.expected))
    )
    return own <= max(LOOSER * nearest, search.floor)


def _bound(precision: str, floor: float) -> float:
    """Returns the largest distance of a right file. A runtime's arithmetic may differ by as much as the gate of its
    precision, and float16's by as much as its rounding allows for this network."""
    gate = precision_of(precision)
    widest = gate.gate if gate.metric == "relative" else math.sqrt(2 * (1 - gate.gate))
    return min(widest, HALF * floor) if precision == "fp16" else widest


def _output(search: TowerSearch, match: Trial) -> OutputConvention:
    port = search.file.outputs[match.form[1]]
    ours, theirs = (np.linalg.norm(rows.astype(np.float64), axis=1) for rows in (match.ours, match.rows))
    references: dict[Length, Array] = {"raw": ours, "normalised": np.ones_like(ours)}
    fitting: list[tuple[Length, float]] = []
    for length, lengths in references.items():
        ratios = theirs / np.maximum(lengths, 1e-30)
        middle = float(np.median(ratios))
        if np.abs(ratios - middle).max() <= SAME_LENGTH * middle:
            fitting.append((length, 1.0 if abs(middle - 1) <= SAME_LENGTH else middle))
    # Lengths that hardly vary fit both.
    length, factor = min(fitting, key=lambda each: each[1] != 1, default=("varying", 1.0))
    return OutputConvention(name=port.name, shape=port.shape, length=length, factor=factor)
