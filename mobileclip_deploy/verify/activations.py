"""The activations that an artifact quantizes: what it makes of its own steps, and whether these are the right ones.

Neither needs a converter, so that artifacts of other versions are checked as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mobileclip_deploy.artifacts.towers.calibration import calibration_inputs
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Bound, Check
from mobileclip_deploy.targets.quantized import QuantizedFile, QuantizedValue
from mobileclip_deploy.targets.ranges import STEPS, Range, ranges_of
from mobileclip_deploy.verify.graph import INPUTS, tower_as_stored, with_whole_steps
from mobileclip_deploy.verify.matching import Matched
from mobileclip_deploy.verify.quantized import QuantizedTower, Site, found_sites
from mobileclip_deploy.verify.subject import Subject

ACTIVATIONS, RANGES = "activations", "ranges"
# Of nano's towers and the golden ones torch came to a relative deviation of 1e-7 at most, with no integer another.
COSINE = Bound("cosine", 0.999)
OFF = 0.01  # of a value's integers
# Share of a range's width, and steps from the exact zero point: scales are float16 in a package of Core ML (2e-3), a
# zero point is rounded to half a step, and where few values are cut off a number may lie in the next of 8,192 bins.
WIDTH, ZERO = 0.01, 0.75
# A value that hardly leaves zero has a range that float16 can hold.
SMALLEST = 2.0**-9


def check_activations(subject: Subject, tower: TowerName) -> list[Check]:
    """The artifact with its activations quantized, against torch that quantizes the same values by the same steps; and
    these steps against the ranges of the checkpoint's own values on the calibration inputs.

    Nothing of a precision that quantizes none by steps that stand in the file.
    """
    found = subject.matched.get(tower)
    if found is None or subject.head.names:
        return []
    try:
        file = subject.quantized(tower)
    except NotRun as error:
        return [Check.not_run(ACTIVATIONS, tower, str(error))]
    except InvalidInput as error:
        return [Check(step=ACTIVATIONS, tower=tower, status="failed", detail=str(error))]
    if file is None or not file.values:
        return []
    inputs = subject.evidence.reference.inputs.of(tower)[:INPUTS]
    stored = tower_as_stored(subject.module(tower), found, subject.grids(tower))
    with_whole_steps(stored, found, file.bias_steps)
    stored.double()
    rows = torch.from_numpy(inputs)
    rows = rows.double() if rows.is_floating_point() else rows
    try:
        sites, missing = found_sites(stored, rows[:1], file.plain(inputs[:1]), file.values)
    except InvalidInput as error:
        return [Check(step=ACTIVATIONS, tower=tower, status="failed", detail=str(error))]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        detail = f"it rounds {missing[0]!r}{more}, which torch does not compute"
        return [Check(step=ACTIVATIONS, tower=tower, status="failed", engine=file.engine, detail=detail)]
    answered = _quantized(file, QuantizedTower(stored, file.values, sites), tower, rows, inputs)
    return [answered, _ranges(subject, file, sites, tower, found)]


def _quantized(
    file: QuantizedFile, torchs: QuantizedTower, tower: TowerName, rows: Tensor, inputs: npt.NDArray[np.generic]
) -> Check:
    """Its answers, and its integers on the way to them."""
    wanted, answers = [], []
    for row, given in zip(rows.split(1), np.split(inputs, len(inputs)), strict=True):
        answer, integers = file.quantized(given)
        answers.append(answer)
        wanted.append(torchs(row, integers).float().numpy())
    check = Check.of_answers(ACTIVATIONS, tower, np.concatenate(wanted), np.concatenate(answers), COSINE, file.engine)
    wrong = [name for name, off in torchs.off.items() if off > OFF * torchs.total[name]]
    total, off = sum(torchs.total.values()), sum(torchs.off.values())
    if wrong:
        first = f"{torchs.off[wrong[0]]:,} of {torchs.total[wrong[0]]:,} integers of {wrong[0]!r} are not torch's"
        return check.model_copy(update={"status": "failed", "detail": f"{first}; so {off:,} of {total:,}"})
    detail = f"{total - off:,} of {total:,} integers at {len(torchs.off)} places are torch's"
    return check.model_copy(update={"detail": detail})


def _ranges(
    subject: Subject, file: QuantizedFile, sites: Sequence[tuple[Site, ...]], tower: TowerName, found: Sequence[Matched]
) -> Check:
    """Every step and zero point."""
    chosen = subject.chosen(tower)
    assert subject.source is not None
    inputs = calibration_inputs(subject.source.variant, tower, subject.calibration)
    # The checkpoint's numbers in the form that they have in the file; what was learned is measured as it was learned.
    forms = [replace(match, wanted=match.stored.values) if match.layer in chosen else match for match in found]
    exact = QuantizedTower(tower_as_stored(subject.module(tower), forms, None), file.values, sites)

    def computed() -> Iterator[dict[str, Floats]]:
        for row in torch.from_numpy(inputs).split(1):
            yield exact.exact(row)

    steps = max(STEPS, *(value.most - value.least for value in file.values))
    measured = ranges_of(computed, steps)
    wrong = [value for value in file.values if not _fits(value, measured[value.name])]
    if wrong:
        value, known = wrong[0], measured[wrong[0].name]
        detail = (
            f"{value.source!r} is rounded within [{value.low:.4g}, {value.high:.4g}], the checkpoint's values are "
            f"within [{known.low:.4g}, {known.high:.4g}]"
        )
        more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return Check(step=RANGES, tower=tower, status="failed", detail=detail + more)
    count = len({value.name for value in file.values})
    return Check(step=RANGES, tower=tower, status="passed", detail=f"{count} are those of the checkpoint's values")


def _fits(value: QuantizedValue, known: Range) -> bool:
    """Whether a range is the one that was measured."""
    if abs(value.low - known.low) <= SMALLEST and abs(value.high - known.high) <= SMALLEST:
        return True
    width = known.high - known.low
    step = width / known.steps
    return abs(value.high - value.low - width) <= WIDTH * width and (
        abs(value.least - known.low / step - value.zero_point) <= ZERO
    )
