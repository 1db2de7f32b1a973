"""Verdict on one tower of a foreign file, from its embeddings and from its stored weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.network.inputs import embed, embed_exactly
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.parity.gates import LEAST, MULTIPLE
from mobileclip_deploy.verify.foreign.conventions import ImageConvention
from mobileclip_deploy.verify.foreign.report import ForeignTower, InputConvention, Length, OutputConvention, Verdict
from mobileclip_deploy.verify.foreign.searching import CLEAN, Match, TowerSearch, apart

HALF = 2.0**13
"""Ratio of float16's rounding to float32's."""
SAME_LENGTH = 0.02
"""Largest relative difference of lengths from their median that still makes one factor."""
FLOORS = 2
"""Inputs that are embedded in float64 for the noise floor."""
NAMED = {"float32": "fp32", "float64": "fp32", "float16": "fp16", "bfloat16": "fp16", "int8": "w8a8", "uint8": "w8a8"}


def stored_precision(constants: Iterable[tuple[str, Array]]) -> str:
    """Returns the precision that holds most elements of a file's constants."""
    sizes = Counter[str]()
    for _, values in constants:
        sizes[NAMED.get(values.dtype.name, "")] += values.size
    sizes.pop("", None)
    return max(sizes, key=lambda name: sizes[name], default="fp32")


def judged(search: TowerSearch, match: Match, precision: str) -> ForeignTower:
    """Returns the verdict on the tower that was searched."""
    bound = _bound(search, precision)
    cause = match.pair.cause
    verdict: Verdict = "same" if match.clean <= bound else "differs"
    if cause is not CLEAN and match.clean > _floor_bound(search):
        verdict = "defect"
    named = cause is not CLEAN and verdict == "defect"
    file, convention = search.feeder.file, match.pair.convention
    roles = search.feeder.roles
    port = roles.image if isinstance(convention, ImageConvention) else roles.ids
    assert port is not None
    return ForeignTower(
        file=file.path.name,
        tower=search.tower,
        verdict=verdict,
        input=InputConvention(
            name=file.inputs[port].name,
            shape=file.inputs[port].shape,
            form=convention.describe(),
            also=tuple(other.describe() for other in match.others),
        ),
        output=_output(search, match),
        precision=precision,
        distance=match.clean,
        bound=bound,
        inputs=len(match.rows),
        cause=cause.name if named else None,
        cause_text=cause.text if named else None,
        explained=match.distance if named else None,
    )


def _floor_bound(search: TowerSearch) -> float:
    some = search.inputs.some(search.tower, np.arange(FLOORS))
    floor = apart(embed(search.model, search.tower, some), embed_exactly(search.model, search.tower, some))
    return max(MULTIPLE * floor, LEAST)


def _bound(search: TowerSearch, precision: str) -> float:
    """Returns the largest distance of a right file. A runtime's arithmetic may differ by as much as the gate of its
    precision, and float16's by as much as its rounding allows for this network."""
    gate = precision_of(precision)
    widest = gate.gate if gate.metric == "relative" else math.sqrt(2 * (1 - gate.gate))
    return min(widest, HALF * _floor_bound(search)) if precision == "fp16" else widest


def _output(search: TowerSearch, match: Match) -> OutputConvention:
    port = search.feeder.file.outputs[match.pair.output]
    ours, theirs = (np.linalg.norm(rows.astype(np.float64), axis=1) for rows in (match.explaining, match.rows))
    ratios = theirs / np.maximum(ours, 1e-30)
    factor = float(np.median(ratios))
    unit = bool(np.abs(theirs - 1).max() < SAME_LENGTH)
    steady = bool(np.abs(ratios - factor).max() <= SAME_LENGTH * factor)
    length: Length = "raw" if steady and abs(factor - 1) < SAME_LENGTH else "scaled" if steady else "varying"
    length = "normalised" if unit and length != "raw" else length
    return OutputConvention(
        name=port.name, shape=port.shape, length=length, factor=round(factor, 6) if length == "scaled" else None
    )
