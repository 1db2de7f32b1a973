"""Check of the axes of smaller embeddings against a repeated fit, if the fitting data is available.

Without that data `verify` compares the artifacts with the axes in the bundle. With the data, it compares these axes
with a new fit to the pictures.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.dataset_files import accuracy_dataset
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.provenance import Compacted
from mobileclip_deploy.parity import Check
from mobileclip_deploy.spaces.compacting import fit_compact, read_fitting_set
from mobileclip_deploy.verify.subject import OpenedSubject

NEAR = 1e-4
"""Largest difference of elements of axes. Other processors move them by less than their rounding (1e-6), except for two
directions of almost equal strength."""
SETTINGS = ("logit_scale", "full_logit_scale", "int8_scale", "clipped")
FITTED_TO = ("fit", "pictures", "captions", "own_captions")


def fitted_again(
    bundle: Bundle, source: Source, pictures: Path, captions: Path | None, dataset: Path | None, progress: Progress
) -> tuple[Axes, Compacted]:
    """Fits axes to the same pictures and captions, and returns them with their record for the manifest.

    Args:
        source: the checkpoint with full embeddings.
        pictures, captions: the fitting data, according to the user.
        dataset: dataset for the comparison of accuracy, which the fit leaves out.

    Raises:
        UsageError: the bundle has full embeddings.
        InvalidInput: the pictures or captions differ from those of the original fit.
    """
    compacted = bundle.manifest.checkpoint.compacted
    if compacted is None:
        raise UsageError(f"{bundle.path.name} has full embeddings; leave `fit` out")
    data = read_fitting_set(compacted.size, pictures, captions, source.variant, accuracy_dataset(source, dataset))
    if data.sha256 != compacted.fitted_sha256:
        raise InvalidInput(
            f"{pictures} does not contain the pictures and captions that {bundle.path.name} was fitted to (give "
            "`captions` and `dataset` as its export had them)"
        )
    return fit_compact(source, data, progress)


def check_fit(subject: OpenedSubject) -> Iterator[Check]:
    """Checks axes, logit scale and int8 scale against those of the repeated fit; yields nothing without one."""
    recorded = subject.bundle.manifest.checkpoint.compacted
    if subject.again is None or recorded is None:
        return
    fresh, refitted = subject.again
    off = float(np.abs(Axes.read(subject.bundle.axes).matrix - fresh.matrix).max())
    wrong = [] if off <= NEAR else [f"its axes differ by {off:.1g}"]
    for name in SETTINGS:
        have, want = getattr(recorded, name), getattr(refitted, name)
        if not math.isclose(have, want, rel_tol=NEAR, abs_tol=NEAR if name == "clipped" else 0):
            wrong.append(f"{name} is {have:g}, the new fit has {want:g}")
    for name in FITTED_TO:
        if getattr(recorded, name) != getattr(refitted, name):
            wrong.append(f"{name} is {getattr(recorded, name)}, the new fit has {getattr(refitted, name)}")
    yield Check.of_faults("fit", "both", wrong, f"axes and scales equal a new fit to {recorded.pictures:,} pictures")
