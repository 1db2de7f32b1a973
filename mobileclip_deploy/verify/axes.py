"""The axes of smaller embeddings against a fit that is made now, where what they were fitted to is at hand.

Without it `verify` holds the artifacts to the axes that stand in the bundle; with it, these to their pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.dataset_files import accuracy_dataset
from mobileclip_deploy.evaluation.evaluate import Measurement
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.provenance import Compacted
from mobileclip_deploy.parity import Check
from mobileclip_deploy.spaces.compacting import fit_compact, read_fitting_set
from mobileclip_deploy.verify.subject import OpenedSubject

NEAR = 1e-4
"""By how much numbers of axes may differ: other processors move them by less than their rounding (1e-6), but for two
directions that are almost equally strong."""
SHOWN = ("text_to_image_recall@1", "text_to_image_recall@5", "text_to_image_recall@10", "top1")
SETTINGS = ("logit_scale", "full_logit_scale", "int8_scale", "clipped")
FITTED_TO = ("fit", "pictures", "captions", "own_captions")


def fitted_again(
    bundle: Bundle, source: Source, pictures: Path, captions: Path | None, dataset: Path | None, progress: Progress
) -> tuple[Axes, Compacted]:
    """Fit axes to the same pictures and captions, and what is said of them.

    Args:
        source: the checkpoint with full embeddings.
        pictures, captions: what a user says that the axes were fitted to.
        dataset: what accuracy is compared on, which was left out of it.

    Raises:
        UsageError: the bundle has full embeddings.
        InvalidInput: the pictures or captions are others than those that the axes were fitted to.
    """
    told = bundle.manifest.checkpoint.compacted
    if told is None:
        raise UsageError(f"{bundle.path.name} has full embeddings; leave `fit` out")
    data = read_fitting_set(told.size, pictures, captions, source.variant, accuracy_dataset(source, dataset))
    if data.sha256 != told.fitted_sha256:
        raise InvalidInput(
            f"{pictures} does not hold the pictures and captions that {bundle.path.name} was fitted to (give "
            "`captions` and `dataset` as its export had them)"
        )
    return fit_compact(source, data, progress)


def check_cut(told: Compacted, full: Measurement, cut: Measurement) -> Check:
    """What the embeddings lost by being cut, in the words of a search: recorded, and held to no bound, since the user
    chose the size. The artifacts are held to what is left."""
    changes = {name: paired_difference(cut.hits[name], full.hits[name]) for name in SHOWN if name in full.hits}
    figures = {name: cut.result.figures[name].value for name in changes}
    parts = [
        f"{name} {figures[name]:.1f}% ({change.value:+.1f} points, {change.low:+.1f} to {change.high:+.1f})"
        for name, change in changes.items()
    ]
    detail = f"{told.size} of {told.full_size} numbers: {', '.join(parts)}"
    return Check(step="cut", tower="both", status="passed", figures=figures, detail=detail)


def check_fit(subject: OpenedSubject) -> Iterator[Check]:
    """Axes, logit scale and int8 scale against those of the fit; nothing where none was asked for."""
    told = subject.bundle.manifest.checkpoint.compacted
    if subject.again is None or told is None:
        return
    fresh, found = subject.again
    off = float(np.abs(Axes.read(subject.bundle.axes).matrix - fresh.matrix).max())
    wrong = [] if off <= NEAR else [f"its axes differ by {off:.1g}"]
    for name in SETTINGS:
        have, want = getattr(told, name), getattr(found, name)
        if not math.isclose(have, want, rel_tol=NEAR, abs_tol=NEAR if name == "clipped" else 0):
            wrong.append(f"{name} is {have:g}, the fit gives {want:g}")
    for name in FITTED_TO:
        if getattr(told, name) != getattr(found, name):
            wrong.append(f"{name} is {getattr(told, name)}, the fit has {getattr(found, name)}")
    detail = "; ".join(wrong) or f"axes and scales are those of a fit to {told.pictures:,} pictures"
    yield Check(step="fit", tower="both", status="failed" if wrong else "passed", detail=detail)
