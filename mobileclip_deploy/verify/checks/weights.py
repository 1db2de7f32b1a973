"""Check of an artifact's weights, dequantized, against the folded checkpoint's, layer by layer.

It finds errors that outputs hide: a table row of a word in no prompt, or a channel scaled by some percent at 4 bits. It
needs no converter, so artifacts of other versions are checked as well.
"""

from __future__ import annotations

import importlib.metadata

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.report import Status, StoredLayer
from mobileclip_deploy.targets.storage import stored_in_half
from mobileclip_deploy.verify.instruments.learned_rounding import unlike_learned
from mobileclip_deploy.verify.instruments.matching import matched_weights
from mobileclip_deploy.verify.subject import Subject, lacks_to_convert

STEP = "weights"
OURS = "mobileclip-deploy"


def check_weights(subject: Subject, tower: TowerName) -> list[Check]:
    """Checks every weight of convolutions, products and tables in the file against the checkpoint's.

    Stores the matches in `subject.matched` and each layer's deviation in `subject.layers`.

    Raises:
        InvalidInput: the artifact is damaged.
    """
    if (lacks := lacks_to_convert(subject, tower)) is not None:
        return [Check.not_run(STEP, tower, lacks)]
    try:
        stored = subject.artifact(tower).weights
    except InvalidInput as error:
        return [Check(step=STEP, tower=tower, status="failed", detail=str(error))]
    if stored is None:  # then `reproduced` checks the weights, and says so
        subject.matched[tower] = None
        return []
    grids = subject.grids(tower)
    matches, missing = matched_weights(subject.module(tower), stored)
    wrong = [f"{name} is not in the file" for name in missing]
    half, rows, chosen = stored_in_half(grids), [], subject.chosen(tower)
    wrong += [f"{name}, whose rounding was learned, is no layer of it" for name in sorted({*chosen} - {*grids})]
    # The version that wrote the bundle chose the storage of each weight; this version may choose another.
    writer = subject.bundle.manifest.environment.get(OURS)
    another, otherwise = writer not in (None, importlib.metadata.version(OURS)), 0
    for match in matches:
        grid = grids[match.layer].describe()
        if match.layer in chosen:
            text = unlike_learned(match, grids[match.layer], chosen[match.layer])
        elif another and match.elsewhere(grids[match.layer]) is not None:
            text = match.off_its_own(half or match.stored.bits == 16)
            grid = f"{match.stored.bits}-bit {match.stored.kind}"
            otherwise += 1
        else:
            text = match.wrong(grids[match.layer], half)
        rows.append(
            StoredLayer(
                tower=tower,
                layer=match.layer,
                grid=grid,
                relative=match.relative,
                wrong=text,
            )
        )
        if text is not None:
            wrong.append(f"{match.layer} {text}")
    worst = max(matches, key=lambda match: match.relative, default=None)
    detail = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    if not wrong:
        detail = f"{len(matches)} layers are the checkpoint's on their grids"
        if chosen:
            detail += f", {len(chosen)} of them as rounding was learned"
        if otherwise:
            detail += f"; {otherwise} on others than this version stores them on, as mobileclip-deploy {writer} did"
        if worst is not None and worst.relative:
            detail += f"; {worst.layer} is rounded most, relative {worst.relative:.1e}"
    subject.matched[tower], subject.layers[tower] = tuple(matches), tuple(rows)
    status: Status = "failed" if wrong or not matches else "passed"
    return [Check(step=STEP, tower=tower, status=status, detail=detail)]
