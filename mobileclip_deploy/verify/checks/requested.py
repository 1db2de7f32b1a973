"""Checks that the options of a manifest and its entries agree, and that every option is known."""

from collections.abc import Iterator
from dataclasses import fields

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets.storage import layers
from mobileclip_deploy.verify.instruments.versions import FORMER, written_by_this_version
from mobileclip_deploy.verify.subject import OpenedSubject

BACKGROUND, EMBEDDING_SIZE = "background", "embedding_size"
COMMON = {"allow_failing", BACKGROUND, "calibration", "calibration_sha256", EMBEDDING_SIZE, "gates"}
"""Options of every target that a manifest may record."""


def check_requested(subject: OpenedSubject) -> Iterator[Check]:
    """Fails if an option requests an entry that is missing, or if no option requests an entry that is there.

    Another version may have recorded other options: of its bundles, only missing entries fail. Yields nothing for a
    bundle without such options and errors.
    """
    wrong = [*_missing(subject)]
    if written_by_this_version(subject.bundle):
        wrong += _unrequested(subject)
    options = subject.bundle.manifest.options
    if wrong or options.keys() & {BACKGROUND, EMBEDDING_SIZE}:
        yield Check.of_faults("requested", "both", wrong, "every entry that the options require is present")


def _missing(subject: OpenedSubject) -> Iterator[str]:
    manifest = subject.bundle.manifest
    if BACKGROUND in manifest.options and manifest.relevance is None:
        yield "the options require `background`, but `relevance` is missing"
    size = manifest.options.get(EMBEDDING_SIZE)
    compacted = manifest.checkpoint.compacted
    if size is not None and (compacted is None or size != str(compacted.size)):
        yield f"the options require an `embedding_size` of {size}, but `checkpoint.compacted` has no such axes"


def _unrequested(subject: OpenedSubject) -> Iterator[str]:
    manifest = subject.bundle.manifest
    if manifest.relevance is not None and manifest.options.get(BACKGROUND) != manifest.relevance.background:
        yield "`relevance` is present, but the option `background` does not name its pictures"
    if manifest.checkpoint.compacted is not None and EMBEDDING_SIZE not in manifest.options:
        yield "`checkpoint.compacted` is present, but the option `embedding_size` is missing"
    known_names = COMMON | FORMER | {option.name for option in fields(subject.target.options)}
    yield from (f"the option {name!r} is not known" for name in sorted(manifest.options.keys() - known_names))
    try:
        subject.target.settled({tower: entry.precision for tower, entry in manifest.towers.items()})
        if subject.source is not None:
            subject.target.options.require_layers(lambda: {tower: _layers(subject, tower) for tower in manifest.towers})
    except UsageError as error:
        yield f"no export takes its options: {error}"


def _layers(subject: OpenedSubject, tower: TowerName) -> list[str]:
    assert subject.source is not None
    return [layer.parameter for layer in layers(subject.head.module(subject.source.model, tower))]
