"""Comparison of the rows that a file computes in one batch with the checkpoint's, computed one by one."""

from dataclasses import dataclass

import numpy as np

from mobileclip_deploy.base.files.arrays import Array
from mobileclip_deploy.errors import RuntimeFailed
from mobileclip_deploy.verify.audit.opening import Stopped
from mobileclip_deploy.verify.audit.tower_search import TowerSearch
from mobileclip_deploy.verify.audit.trials import Trial, distances

ROWS = 3
"""Rows of a batch of any size."""
LENGTHS = 0.02
"""Largest relative difference of a row's length in a batch from its length alone."""


@dataclass(frozen=True)
class BatchMistake:
    """A mistake of rows in a batch: identifier, words, and the largest distance from the checkpoint, if they ran."""

    name: str
    text: str
    distance: float = 0.0


def batch_mistake(search: TowerSearch, match: Trial, bound: float) -> BatchMistake | None:
    """Runs different rows together, in two orders. Returns None if each is the checkpoint's, or a file takes one."""
    size, count = search.batch or ROWS, len(match.rows)
    order = np.arange(size) % count
    for indices in (order, order[::-1]) if min(size, count) > 1 else ():
        rows = _together(search, match, indices)
        if rows is None:
            return BatchMistake(
                "batch-of-one", "it takes only one row at a time, although its input declares any number"
            )
        if rows.shape[0] != size:
            return BatchMistake("batch-rows", f"a batch of {size} rows gives {rows.shape[0]}")
        rows = rows.reshape(size, -1)
        far = distances(rows, search.clean[indices])
        lengths, alone = (np.linalg.norm(each, axis=1) for each in (rows, match.rows[indices]))
        wrong = (far > bound) | (np.abs(lengths - alone) > LENGTHS * alone)
        if wrong.any():
            row = int(np.argmax(wrong)) + 1
            return BatchMistake("batch-rows", f"row {row} of a batch of {size} depends on the others", float(far.max()))
    return None


def _together(search: TowerSearch, match: Trial, indices: Array) -> Array | None:
    """Returns the rows of a batch. None if the runtime refuses it, next to one row of another tower or as many."""
    for others in ([0], [0] * len(indices)):
        try:
            return search.together(match.form[0], indices.tolist(), others)[match.form[1]]
        except Stopped:
            raise
        except RuntimeFailed:
            continue
    return None
