"""What was learned of rounding, held against the artifact and written down for `verify`."""

from __future__ import annotations

from safetensors.torch import save_file
from torch import Tensor

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.bundle.manifest import AttachmentEntry, RoundedTowerEntry, RoundingEntry
from mobileclip_deploy.bundle.opening import ROUNDING
from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.learning.rounding.rounding import Rounded, RoundedTower
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import stored_in_half
from mobileclip_deploy.towers.tower import make_tower
from mobileclip_deploy.verify.matching import matched_weights
from mobileclip_deploy.verify.rounding import learned_floats, stored_sha256, tower_to_round

__all__ = ["record_rounding"]


def record_rounding(plan: BundlePlan, source: Source, rounded: Rounded, bundle: Bundle) -> RoundingEntry | None:
    """The manifest's entry; writes the floats that were learned into the bundle. None where no tower was nearer.

    Raises:
        ExportError: an artifact does not hold the numbers that were learned.
    """
    learned = {outcome.tower: outcome for outcome in rounded.towers if outcome.layers}
    if not learned:
        return None
    assert plan.learned_on is not None
    floats: dict[str, Tensor] = {}
    entries: dict[TowerName, RoundedTowerEntry] = {}
    for tower, outcome in learned.items():
        before = tower_to_round(source, tower, plan.target)
        after = make_tower(rounded.source.model, tower)
        floats |= {f"{tower}.{name}": values for name, values in learned_floats(before, after, outcome.layers).items()}
        entries[tower] = RoundedTowerEntry(
            method=outcome.method,
            layers=_stored(plan, rounded, outcome, bundle),
            nearest_db=outcome.nearest_db,
            learned_db=outcome.learned_db,
        )
    path = bundle.path / ROUNDING
    save_file(floats, path)
    return RoundingEntry(
        method=plan.request.rounding,
        calibration=plan.learned_on.name,
        calibration_sha256=plan.learned_on.sha256,
        images=len(plan.learned_on.pixels),
        captions=len(plan.learned_on.ids),
        floats=AttachmentEntry.of(path, bundle.path),
        towers=entries,
    )


def _stored(plan: BundlePlan, rounded: Rounded, outcome: RoundedTower, bundle: Bundle) -> dict[str, str]:
    """The hashes of the learned weights as the artifact holds them: the very numbers that were learned."""
    tower = outcome.tower
    module = make_tower(rounded.source.model, tower)
    four_bit = plan.four_bit.get(tower, frozenset())
    grids = storage_of(plan.target, tower, module, plan.precisions[tower], four_bit)
    stored = plan.target.open(bundle.artifact(tower), bundle.manifest.towers[tower].function).weights
    if stored is None:
        raise ExportError(f"{plan.target.label}: the weights cannot be read back; leave `rounding` out")
    found, _ = matched_weights(module, stored)
    matches = {match.layer: match for match in found}
    for name in outcome.layers:
        match = matches.get(name)
        wrong = "is not in the file" if match is None else match.wrong(grids[name], stored_in_half(grids))
        if wrong is not None:
            raise ExportError(f"{name} was learned, and {wrong}")
    return {name: stored_sha256(matches[name].stored) for name in outcome.layers}
