"""Check of an artifact's weights, dequantized, against the folded checkpoint's, layer by layer.

It finds errors that outputs hide: a table row of a word in no prompt, or a channel scaled by some percent at 4 bits. It
needs no converter, so artifacts of other versions are checked as well.
"""

import importlib.metadata

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.report import StoredLayer
from mobileclip_deploy.targets.storage import stored_in_half
from mobileclip_deploy.verify.instruments.learned_rounding import unlike_learned
from mobileclip_deploy.verify.instruments.matching import matched_weights
from mobileclip_deploy.verify.instruments.versions import OURS
from mobileclip_deploy.verify.subject import TowerProof


def check_weights(tower: TowerProof) -> list[Check]:
    """Checks every weight of convolutions, products and tables in the file against the checkpoint's.

    Stores the matches in `matched`, and the deviation of each layer in `layers`.

    Raises:
        InvalidInput: the artifact is damaged.
    """
    if (missing := tower.missing_for_conversion()) is not None:
        return [Check.not_run("weights", tower.name, missing)]
    try:
        stored = tower.artifact.weights
    except InvalidInput as error:
        return [Check.failed("weights", tower.name, str(error))]
    if stored is None:  # then `reproduced` checks the weights, and says so
        tower.unreadable = True
        return []
    grids = tower.grids
    matches, unmatched = matched_weights(tower.module, stored)
    wrong = [f"{name} is missing from the file" for name in unmatched]
    half, rows, chosen = stored_in_half(grids), [], tower.chosen
    wrong += [f"{name}, whose rounding was learned, is not a layer of it" for name in sorted({*chosen} - {*grids})]
    # The version that wrote the bundle chose the storage of each weight; this version may choose another.
    writer = tower.subject.bundle.manifest.environment.get(OURS)
    another, otherwise = writer not in (None, importlib.metadata.version(OURS)), 0
    for match in matches:
        grid = grids[match.layer].describe()
        if match.layer in chosen:
            text = unlike_learned(match, grids[match.layer], chosen[match.layer])
        elif another and match.other_grid(grids[match.layer]) is not None:
            text = match.off_stored_grid(half or match.stored.bits == 16)
            grid = f"{match.stored.bits}-bit {match.stored.kind}"
            otherwise += 1
        else:
            text = match.wrong(grids[match.layer], half)
        rows.append(StoredLayer(tower=tower.name, layer=match.layer, grid=grid, relative=match.relative, wrong=text))
        if text is not None:
            wrong.append(f"{match.layer} {text}")
    worst = max(matches, key=lambda match: match.relative, default=None)
    tower.matched, tower.layers = tuple(matches), tuple(rows)
    sound = f"{len(matches)} layers equal the checkpoint's, quantized"
    if chosen:
        sound += f", {len(chosen)} of them with learned rounding"
    if otherwise:
        sound += f"; {otherwise} quantized as {OURS} {writer} did, unlike this version"
    if worst is not None and worst.relative:
        sound += f"; {worst.layer} has the largest rounding error, relative {worst.relative:.1e}"
    if not matches and not wrong:
        return [Check.failed("weights", tower.name, sound)]
    return [Check.of_faults("weights", tower.name, wrong, sound, shown=3)]
