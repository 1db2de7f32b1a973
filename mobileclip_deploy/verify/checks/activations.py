"""Check of the activations that an artifact quantizes, with its own scales.

It needs no converter, so artifacts of other versions are checked as well.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Bound, Check
from mobileclip_deploy.targets.quantized import QuantizedFile
from mobileclip_deploy.verify.instruments.quantized import QuantizedTower, locate_values
from mobileclip_deploy.verify.instruments.stored_tower import tower_as_stored, with_whole_steps
from mobileclip_deploy.verify.subject import TowerProof

STEP = "activations"
# A few inputs suffice: a wrong operation is wrong on every input.
INPUTS = 4
# On nano's towers and the golden towers torch deviated by at most 1e-7 (relative), and every integer was equal.
COSINE = Bound("cosine", 0.999)
OFF = 0.01  # share of a value's integers


def check_activations(tower: TowerProof) -> list[Check]:
    """Checks the artifact with quantized activations against torch with the same values on the same scales.

    Stores the locations of these values in `locations`. Returns nothing if the precision does not quantize by scales in
    the file.
    """
    matches = tower.matched
    if matches is None or tower.subject.head.names:
        return []
    try:
        file = tower.quantized
    except NotRun as error:
        return [Check.not_run(STEP, tower.name, str(error))]
    except InvalidInput as error:
        return [Check.failed(STEP, tower.name, str(error))]
    if file is None or not file.values:
        return []
    inputs = tower.inputs[:INPUTS]
    stored = tower_as_stored(tower.module, matches, tower.grids)
    with_whole_steps(stored, matches, file.bias_steps)
    stored.double()
    rows = torch.from_numpy(inputs)
    rows = rows.double() if rows.is_floating_point() else rows
    try:
        locations, missing = locate_values(stored, rows[:1], file.plain(inputs[:1]), file.values)
    except InvalidInput as error:
        return [Check.failed(STEP, tower.name, str(error))]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        detail = f"it quantizes {missing[0]!r}{more}, which torch does not compute"
        return [Check.failed(STEP, tower.name, detail, file.engine)]
    tower.locations = locations
    return [_quantized(file, QuantizedTower(stored, file.values, locations), tower.name, rows, inputs)]


def _quantized(
    file: QuantizedFile, torchs: QuantizedTower, tower: TowerName, rows: Tensor, inputs: npt.NDArray[np.generic]
) -> Check:
    expected, answers = [], []
    for row, image in zip(rows.split(1), np.split(inputs, len(inputs)), strict=True):
        answer, integers = file.quantized(image)
        answers.append(answer)
        expected.append(torchs(row, integers).float().numpy())
    check = Check.of_answers(STEP, tower, np.concatenate(expected), np.concatenate(answers), COSINE, file.engine)
    wrong = [name for name, off in torchs.off.items() if off > OFF * torchs.total[name]]
    total, off = sum(torchs.total.values()), sum(torchs.off.values())
    if wrong:
        first = f"{torchs.off[wrong[0]]:,} of {torchs.total[wrong[0]]:,} integers of {wrong[0]!r} differ from torch's"
        return check.model_copy(update={"status": "failed", "detail": f"{first}; so {off:,} of {total:,}"})
    detail = f"{total - off:,} of {total:,} integers at {len(torchs.off)} places equal torch's"
    return check.model_copy(update={"detail": detail})
