"""Check of the figures that an export measured."""

from collections.abc import Iterator, Sequence

import numpy as np

from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.baseline import NOISE, Tolerances, drifts, figures_of
from mobileclip_deploy.parity.gates import MULTIPLE
from mobileclip_deploy.verify.subject import OpenedSubject


def check_measured(subject: OpenedSubject, checks: Sequence[Check]) -> Iterator[Check]:
    """Checks the figures in `parity.json` against today's: an export must not record better figures than it has.

    Figures of another engine or of other inputs are not comparable, and the detail reports the number of compared rows.
    The bounds are those of a lock file, which cover other processors and versions. For a network with a high noise
    floor, the bound is a multiple of the floor.

    Args:
        checks: today's checks.
    """
    recorded, measurements = subject.bundle.parity, subject.bundle.measurements
    if not recorded:
        return
    today = {(check.tower, check.step, check.engine): check for check in checks}
    inputs, golden_inputs = subject.evidence.reference.inputs, subject.stored.inputs
    stored = np.array_equal(inputs.pixels, golden_inputs.pixels) and np.array_equal(inputs.ids, golden_inputs.ids)
    own_floors = {str(tower): floor for tower, floor in subject.evidence.reference.floor.items()}
    wrong, compared = [], 0
    for check in recorded:
        now = today.get((check.tower, check.step, check.engine))
        if now is None or {now.status, check.status} & {"not run", "failed"} or not _alike(check, now, stored):
            continue  # a failed check reports its deviation itself
        compared += 1
        # A deviation within some noise floors can come from another order of arithmetic, as `twin` allows.
        room = max(NOISE.deviation_floor, MULTIPLE * own_floors.get(check.tower, 0.0))
        texts = drifts(figures_of(check), figures_of(now), Tolerances(deviation_floor=room))
        texts += drifts(_losses(check), _losses(now)) if check.views == now.views else ()
        wrong += [f"{check.tower} {check.step} {text.replace('accepted', 'recorded')}" for text in texts]
    floors = {} if measurements is None or not stored else measurements.floor
    for tower, floor in floors.items():
        if tower in own_floors:
            compared += 1
            # Arguments swapped: a larger floor is a looser bound for those without the checkpoint.
            texts = drifts({"relative": own_floors[tower]}, {"relative": floor})
            wrong += [f"{tower} noise floor: {text}" for text in texts]
    sound = f"{compared} of {len(recorded) + len(floors)} rows of its export match today's"
    yield Check.of_faults("measured", "both", wrong, sound, shown=3)


def _losses(check: Check) -> dict[str, float]:
    """Returns the losses and their intervals in points, changed hits in percent, and the divergence in millinats."""
    figures: dict[str, float] = {} if check.divergence is None else {"divergence": 1000 * check.divergence}
    for name, lost in (check.losses or {}).items():
        share = 100 / max(lost.examples * lost.looks, 1)
        values = {"drop": lost.points, "interval": lost.error, "lost": share * lost.lost, "won": share * lost.won}
        figures |= {f"{name} {key}": value for key, value in values.items()}
    return figures


def _alike(recorded: Check, now: Check, stored: bool) -> bool:
    if recorded.step in ("task", "sampled"):
        examples = [{name: count for name, (count, _) in check.views.items()} for check in (recorded, now)]
        return examples[0] == examples[1]
    # The quick checks run fewer inputs on a slow runtime, and the worst of fewer is another figure.
    inputs = [None if check.deviation is None else check.deviation.inputs for check in (recorded, now)]
    return stored and inputs[0] == inputs[1]
