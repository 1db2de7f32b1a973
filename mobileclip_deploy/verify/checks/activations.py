"""Checks of the activations that an artifact quantizes: its use of its own scales, and the scales themselves.

No check needs a converter, so artifacts of other versions are checked as well.
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
from mobileclip_deploy.verify.checks.graph import INPUTS, tower_as_stored, with_whole_steps
from mobileclip_deploy.verify.instruments.matching import Matched
from mobileclip_deploy.verify.instruments.quantized import QuantizedTower, Site, found_sites
from mobileclip_deploy.verify.subject import Subject

ACTIVATIONS, RANGES = "activations", "ranges"
# On nano's towers and the golden towers torch deviated by at most 1e-7 (relative), and every integer was equal.
COSINE = Bound("cosine", 0.999)
OFF = 0.01  # share of a value's integers
# Share of a range's width, and steps from the exact zero point. Scales are float16 in a Core ML package (2e-3), and a
# zero point is rounded to half a step. If few values are clipped, a bound may lie in the next of 8,192 bins.
WIDTH, ZERO = 0.01, 0.75
# A value very close to zero has a range as narrow as float16 allows.
SMALLEST = 2.0**-9


def check_activations(subject: Subject, tower: TowerName) -> list[Check]:
    """Checks the artifact with quantized activations against torch with the same values on the same scales. Also checks
    these scales against the ranges of the checkpoint's own values on the calibration inputs.

    Returns nothing if the precision does not quantize by scales in the file.
    """
    matches = subject.matched.get(tower)
    if matches is None or subject.head.names:
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
    stored = tower_as_stored(subject.module(tower), matches, subject.grids(tower))
    with_whole_steps(stored, matches, file.bias_steps)
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
    return [answered, _ranges(subject, file, sites, tower, matches)]


def _quantized(
    file: QuantizedFile, torchs: QuantizedTower, tower: TowerName, rows: Tensor, inputs: npt.NDArray[np.generic]
) -> Check:
    """Returns the check of the artifact's answers, and of its integers before them."""
    expected, answers = [], []
    for row, image in zip(rows.split(1), np.split(inputs, len(inputs)), strict=True):
        answer, integers = file.quantized(image)
        answers.append(answer)
        expected.append(torchs(row, integers).float().numpy())
    check = Check.of_answers(ACTIVATIONS, tower, np.concatenate(expected), np.concatenate(answers), COSINE, file.engine)
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
    """Returns the check of all scales and zero points."""
    chosen = subject.chosen(tower)
    assert subject.source is not None
    inputs = calibration_inputs(subject.source.variant, tower, subject.calibration)
    # The checkpoint's weights in the file's form; learned weights as they were learned.
    forms = [replace(match, wanted=match.stored.values) if match.layer in chosen else match for match in found]
    exact = QuantizedTower(tower_as_stored(subject.module(tower), forms, None), file.values, sites)

    def computed() -> Iterator[dict[str, Floats]]:
        for row in torch.from_numpy(inputs).split(1):
            yield exact.exact(row)

    steps = max(STEPS, *(value.most - value.least for value in file.values))
    measured = ranges_of(computed, steps)
    wrong = [value for value in file.values if not _fits(value, measured[value.name])]
    if wrong:
        value, expected = wrong[0], measured[wrong[0].name]
        detail = (
            f"{value.source!r} is rounded within [{value.low:.4g}, {value.high:.4g}], the checkpoint's values are "
            f"within [{expected.low:.4g}, {expected.high:.4g}]"
        )
        more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return Check(step=RANGES, tower=tower, status="failed", detail=detail + more)
    count = len({value.name for value in file.values})
    return Check(step=RANGES, tower=tower, status="passed", detail=f"{count} are those of the checkpoint's values")


def _fits(value: QuantizedValue, known: Range) -> bool:
    """Returns whether a range is the measured range."""
    if abs(value.low - known.low) <= SMALLEST and abs(value.high - known.high) <= SMALLEST:
        return True
    width = known.high - known.low
    step = width / known.steps
    return abs(value.high - value.low - width) <= WIDTH * width and (
        abs(value.least - known.low / step - value.zero_point) <= ZERO
    )
