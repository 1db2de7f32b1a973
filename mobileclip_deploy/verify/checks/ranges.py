"""Check of the scales and zero points of quantized activations."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from mobileclip_deploy.artifacts.towers.calibration import calibration_inputs
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets.quantized import QuantizedValue
from mobileclip_deploy.targets.ranges import STEPS, Range, ranges_of
from mobileclip_deploy.verify.instruments.quantized import QuantizedTower
from mobileclip_deploy.verify.instruments.stored_tower import tower_as_stored
from mobileclip_deploy.verify.subject import TowerProof

# Share of a range's width, and steps from the exact zero point. Scales are float16 in a Core ML package (2e-3), and a
# zero point is rounded to half a step. If few values are clipped, a bound may lie in the next of 8,192 bins.
WIDTH, ZERO = 0.01, 0.75
# A value very close to zero has a range as narrow as float16 allows.
SMALLEST = 2.0**-9


def check_ranges(tower: TowerProof) -> list[Check]:
    """Checks scales and zero points against the ranges of the checkpoint's own values on the calibration inputs.

    The check of activations has located these values.
    """
    source, file, matches = tower.subject.source, tower.quantized, tower.matched
    assert source is not None
    assert file is not None
    assert matches is not None
    inputs = calibration_inputs(source.variant, tower.name, tower.subject.calibration)
    # The checkpoint's weights in the file's form; learned weights as they were learned.
    forms = [replace(match, wanted=match.stored.values) if match.layer in tower.chosen else match for match in matches]
    exact = QuantizedTower(tower_as_stored(tower.module, forms, None), file.values, tower.locations)

    def computed() -> Iterator[dict[str, Floats]]:
        for row in torch.from_numpy(inputs).split(1):
            yield exact.exact(row)

    steps = max(STEPS, *(value.most - value.least for value in file.values))
    measured = ranges_of(computed, steps)
    wrong = [value for value in file.values if not _fits(value, measured[value.name])]
    fault = None
    if wrong:
        value, expected = wrong[0], measured[wrong[0].name]
        fault = (
            f"{value.source!r} is quantized to [{value.low:.4g}, {value.high:.4g}], the checkpoint's values are within "
            f"[{expected.low:.4g}, {expected.high:.4g}]"
        )
        fault += f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    count = len({value.name for value in file.values})
    return [Check.of_fault("ranges", tower.name, fault, f"{count} are those of the checkpoint's values")]


def _fits(value: QuantizedValue, known: Range) -> bool:
    if abs(value.low - known.low) <= SMALLEST and abs(value.high - known.high) <= SMALLEST:
        return True
    width = known.high - known.low
    step = width / known.steps
    return abs(value.high - value.low - width) <= WIDTH * width and (
        abs(value.least - known.low / step - value.zero_point) <= ZERO
    )
