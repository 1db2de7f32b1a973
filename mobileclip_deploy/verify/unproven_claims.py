"""Claims of a bundle that no check could compute, so that they rest on its exporter's word."""

from collections.abc import Iterator, Sequence

from mobileclip_deploy.artifacts.layouts import packaged_layout
from mobileclip_deploy.parity import Check
from mobileclip_deploy.spaces.tags.rows import TEXTS
from mobileclip_deploy.verify.checks.relevance import is_learned_again
from mobileclip_deploy.verify.checks.settings import image_tower_of
from mobileclip_deploy.verify.subject import OpenedSubject, Subject

FIT = ("fit", "pictures", "captions", "own_captions", "fitted_sha256", "logit_scale", "int8_scale", "clipped")
"""Fields of `checkpoint.compacted` that follow from the pictures and captions of the fit."""
LEARNED = ("queries", "queries_sha256", "intercept", "slope", "curve")
"""Fields of `relevance` that follow from the captions of `queries`."""

ROUNDED = ("method", "calibration", "calibration_sha256", "images", "captions")
NEARNESS = ("method", "nearest_db", "learned_db")


def unproven_claims(subject: Subject, checks: Sequence[Check]) -> tuple[str, ...]:
    """Returns the claims, as paths in the manifest and names of files; empty if everything was computed.

    Versions, processors and threads are records of a machine and no claims about the artifacts.
    """
    return tuple(_claims(subject, checks)) if isinstance(subject, OpenedSubject) else ()


def _claims(subject: OpenedSubject, checks: Sequence[Check]) -> Iterator[str]:
    manifest = subject.bundle.manifest
    if manifest.checkpoint.compacted is not None and subject.again is None:
        yield from (f"checkpoint.compacted.{name}" for name in FIT)
    if manifest.checkpoint.distilled is not None and image_tower_of(manifest.checkpoint.distilled) is None:
        yield from (f"checkpoint.distilled.{name}" for name in ("source_file", "source_sha256", "source_weights"))
    if manifest.relevance is not None:
        yield from ("relevance.background", "relevance.images_sha256")
        if not is_learned_again(subject):
            yield from (f"relevance.{name}" for name in LEARNED)
    if manifest.classifier is not None and (tags := manifest.classifier.tags) is not None:
        yield from (f"classifier.tags.thresholds.{name}" for name in sorted(tags.thresholds.model_fields_set))
        if tags.thresholds.method != TEXTS.name:
            yield tags.file.file
    if (rounding := manifest.rounding) is not None:
        yield from (f"rounding.{name}" for name in ROUNDED)
        yield from (f"rounding.towers.{tower}.{name}" for tower in rounding.towers for name in NEARNESS)
    layout = manifest.layout
    if layout is not None and packaged_layout(layout.name) != layout:
        yield from (f"layout.{name}" for name in ("name", "title", "source"))
    if "calibration" in manifest.options and subject.calibration is None:
        yield from ("options.calibration", "options.calibration_sha256")
    yield from (f"options.{name}" for name in {"allow_cpu"} & {*manifest.options})  # a permission that no file shows
    recorded = subject.bundle.parity
    unrepeated = [row for row in recorded if _is_unrepeated(row, checks)]
    if subject.source is not None and subject.thorough and unrepeated:
        yield f"{len(unrepeated)} of {len(recorded)} rows of parity.json"


def _is_unrepeated(recorded: Check, checks: Sequence[Check]) -> bool:
    """Returns whether the check ran today, but with another engine or other inputs in each of its rows."""
    today = [check for check in checks if (check.tower, check.step) == (recorded.tower, recorded.step)]
    return all(check.status != "not run" and _inputs(check) != _inputs(recorded) for check in today)


def _inputs(check: Check) -> tuple[str | None, int | None, dict[str, tuple[int, int]]]:
    return check.engine, None if check.deviation is None else check.deviation.inputs, check.views
