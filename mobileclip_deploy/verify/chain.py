"""Checks of a bundle, in the order of the report."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec

from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.verify.checks.activations import check_activations
from mobileclip_deploy.verify.checks.attachments import check_attachments
from mobileclip_deploy.verify.checks.companions import check_companions
from mobileclip_deploy.verify.checks.contents import check_contents
from mobileclip_deploy.verify.checks.contexts import check_contexts
from mobileclip_deploy.verify.checks.files import check_files, unlisted_note
from mobileclip_deploy.verify.checks.fit import check_fit
from mobileclip_deploy.verify.checks.folded import check_folded
from mobileclip_deploy.verify.checks.golden import check_golden
from mobileclip_deploy.verify.checks.graph import check_graph
from mobileclip_deploy.verify.checks.joint import check_joint
from mobileclip_deploy.verify.checks.measured import check_measured
from mobileclip_deploy.verify.checks.padding import check_padding, pads_or_might
from mobileclip_deploy.verify.checks.pictures import check_pictures
from mobileclip_deploy.verify.checks.place import check_place
from mobileclip_deploy.verify.checks.ranges import check_ranges
from mobileclip_deploy.verify.checks.relevance import check_relevance
from mobileclip_deploy.verify.checks.reproduced import check_reproduced
from mobileclip_deploy.verify.checks.requested import check_requested
from mobileclip_deploy.verify.checks.sampled import check_sampled
from mobileclip_deploy.verify.checks.settings import check_settings
from mobileclip_deploy.verify.checks.shipped import check_shipped
from mobileclip_deploy.verify.checks.stages import check_stages
from mobileclip_deploy.verify.checks.structure import check_structure
from mobileclip_deploy.verify.checks.tags import check_tags
from mobileclip_deploy.verify.checks.task import check_task
from mobileclip_deploy.verify.checks.tower import check_tower
from mobileclip_deploy.verify.checks.twin import check_twin
from mobileclip_deploy.verify.checks.weights import check_weights
from mobileclip_deploy.verify.subject import OpenedSubject, Subject, TowerProof, collapsed_towers, replaced_gates
from mobileclip_deploy.verify.unproven_claims import unproven_claims

P = ParamSpec("P")

BUNDLE_CHECKS: tuple[Callable[[OpenedSubject], Iterable[Check]], ...] = (
    check_files,
    check_requested,
    check_settings,
    check_companions,
    check_golden,
    check_fit,
)
"""Checks of an opened bundle before its towers."""

TOWER_CHECKS: tuple[tuple[Callable[[TowerProof], Iterable[Check]], Callable[[TowerProof], bool] | None], ...] = (
    (check_structure, None),
    (check_folded, lambda tower: tower.subject.source is not None and not tower.subject.evidence.reference.folded),
    (check_tower, lambda tower: tower.subject.source is not None),
    (check_twin, None),
    (check_stages, None),
    (check_shipped, None),
    (check_pictures, lambda tower: tower.name == "image" and tower.subject.form.pictures),
    (check_contexts, lambda tower: tower.name == "text" and bool(tower.subject.contexts)),
    (check_padding, pads_or_might),
    (check_weights, None),
    (check_graph, None),
    (check_activations, lambda tower: precision_of(tower.precision).calibrated),
    (check_ranges, lambda tower: bool(tower.locations)),
    (check_reproduced, lambda tower: isinstance(tower.subject, OpenedSubject)),
    (check_attachments, lambda tower: isinstance(tower.subject, OpenedSubject)),
    (check_place, lambda tower: tower.subject.place is not None),
)
"""Checks of each tower, and a condition on the tower (None: always). A new check is a file in `verify/checks`."""


def step_of(check: Callable[..., Any]) -> str:
    """Returns the step of the report that a check yields. It is the word of the progress line, too."""
    return check.__name__.removeprefix("check_")


def verify_subject(subject: Subject) -> ParityReport:
    """Runs every check that can be run here: those of the whole bundle, of each tower, and of accuracy.

    Raises:
        InvalidInput: an artifact or a file next to it is damaged.
        RuntimeFailed: no engine accepts an artifact.
    """
    checks: list[Check] = []
    if isinstance(subject, OpenedSubject):
        for check_bundle in BUNDLE_CHECKS:
            checks += _timed(check_bundle, subject)
    checks += _timed(check_relevance, subject)
    checks += _timed(check_tags, subject)
    subject.report_duration()
    for tower in subject.towers.values():
        sound = not any(check.tower == tower.name and check.status == "failed" for check in checks)
        checks += _tower_checks(tower, sound)
        tower.drop()
    checks += _timed(check_joint, subject)
    for check_accuracy in (check_task, check_sampled):
        checks += _timed(check_accuracy, subject)
    if isinstance(subject, OpenedSubject):
        checks += _timed(check_measured, subject, tuple(checks))
    manifest, towers = subject.bundle.manifest, subject.towers
    return ParityReport(
        bundle=subject.name,
        variant=manifest.variant,
        target=manifest.target,
        checks=tuple(checks),
        floor={name: tower.floor for name, tower in towers.items() if tower.floor is not None},
        storage=subject.stored_weights,
        weights=tuple(row for tower in towers.values() for row in tower.layers),
        notes=(*collapsed_towers(subject), *unlisted_note(subject)),
        gates=replaced_gates(subject),
        on_word=unproven_claims(subject, checks),
    )


def _tower_checks(tower: TowerProof, sound: bool) -> Iterator[Check]:
    """Yields the checks of a tower. `sound`: none of its checks has failed before."""
    subject = tower.subject
    for check, concerns in TOWER_CHECKS:
        if concerns is None or concerns(tower):
            if subject.thorough or check is not check_reproduced:  # which quick checks leave out
                tower.announce(step_of(check))
            for result in _timed(check, tower):
                sound = sound and result.status != "failed"
                yield result
    if isinstance(subject, OpenedSubject) and sound:  # for a failed tower the other checks have reported more
        yield from _timed(check_contents, tower)


def _timed(check: Callable[P, Iterable[Check]], *of: P.args, **named: P.kwargs) -> Iterator[Check]:
    """Yields each check with its duration. If several checks are computed together, the first has the whole
    duration."""
    began = time.monotonic()
    for result in check(*of, **named):
        yield result.model_copy(update={"seconds": round(time.monotonic() - began, 3)})
        began = time.monotonic()
