"""Checks of optional files written next to an artifact (.ort, .bpte, ETRecord), which apps or tools load instead of
it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mobileclip_deploy.artifacts.bundle.manifest import AttachmentEntry
from mobileclip_deploy.base.files.leftovers import temporary_folder
from mobileclip_deploy.errors import ExportError, InvalidInput, NotRun, RuntimeFailed
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check, value_tolerance
from mobileclip_deploy.parity.gates import LEAST, MULTIPLE, exported_gates
from mobileclip_deploy.targets.artifact import Attached, Origin
from mobileclip_deploy.targets.values import Expected
from mobileclip_deploy.verify.checks.reproduced import other_versions
from mobileclip_deploy.verify.subject import OpenedSubject, Subject, lacks_to_convert


def check_attachments(subject: Subject, tower: TowerName) -> Iterator[Check]:
    """Checks each attachment of a tower. If it is a program, checks its answers. Compares its content with the
    artifact, the stored answers or a conversion.

    Other checks compare the artifact with the checkpoint, so an attachment of another network cannot pass.
    """
    assert isinstance(subject, OpenedSubject)
    attached = subject.bundle.manifest.towers[tower].attachments or {}
    required = () if subject.head.names else subject.target.options.attachments  # a classifier is written without any
    for kind in required:
        if kind not in attached:
            yield Check(step=kind, tower=tower, status="failed", detail="the options ask for it, and it is not there")
    for kind, entry in attached.items():
        path = subject.bundle.path / entry.file
        opened = subject.target.open_attached(kind, path)
        if opened is None:
            reason = f"{entry.file}: {subject.target.name} of this version can neither run nor write it"
            yield Check.not_run(kind, tower, reason)
            continue
        yield from _answers(subject, tower, kind, opened)
        yield _written_again(subject, tower, kind, entry, opened)


def _answers(subject: OpenedSubject, tower: TowerName, kind: str, opened: Attached) -> Iterator[Check]:
    """Yields the check of the attachment's answers, if it is a program, with the bound of its artifact."""
    try:
        if (runner := opened.runner()) is not None:
            outputs, bound = runner(subject.evidence.reference.inputs.of(tower)), subject.bound(tower)
            yield Check.of_answers(f"{kind} answers", tower, subject.wanted(tower), outputs, bound, runner.engine)
    except NotRun as error:
        yield Check.not_run(f"{kind} answers", tower, str(error))
    except (InvalidInput, RuntimeFailed) as error:
        yield Check(step=f"{kind} answers", tower=tower, status="failed", detail=str(error))


def _written_again(
    subject: OpenedSubject, tower: TowerName, kind: str, entry: AttachmentEntry, opened: Attached
) -> Check:
    stored = subject.stored
    outputs = subject.head.scaled(stored.of(tower))
    bound = exported_gates(subject.bundle.manifest.options).shipped(subject.precision(tower))  # as at export
    tolerance = value_tolerance(np.asarray(outputs), bound.metric, bound.value)
    # Golden answers are held to this bound, and the root mean square behind the tolerance moves by no more.
    room = tolerance * max(MULTIPLE * (subject.floor(tower) or 0.0), LEAST)
    if opened.tolerates is (entry.tolerance is None) or not abs((entry.tolerance or tolerance) - tolerance) <= room:
        detail = f"{entry.file}: the manifest tolerates {entry.tolerance}, the gate of its export {tolerance:.6g}"
        return Check(step=kind, tower=tower, status="failed", detail=detail)
    if opened.by_conversion:
        if not subject.thorough:
            return Check.not_wanted(kind, tower)
        if (lacks := lacks_to_convert(subject, tower)) is not None:
            return Check.not_run(kind, tower, lacks)
    with temporary_folder() as folder:
        expected = Expected(stored.inputs.of(tower), outputs, tolerance)
        origin = Origin(subject.bundle.artifact(tower), expected, folder, lambda: subject.converted(tower))
        try:
            difference = opened.difference(origin)
        except (NotRun, ExportError) as error:
            return Check.not_run(kind, tower, str(error))
        except InvalidInput as error:
            return Check(step=kind, tower=tower, status="failed", detail=str(error))
    others = other_versions(subject.bundle, subject.target)
    if difference is not None and opened.by_versions and others:
        reason = f"differs from one written here, but was written by other versions ({others}); verify with those"
        return Check.not_run(kind, tower, f"{entry.file} {reason}: {difference}")
    return Check(
        step=kind,
        tower=tower,
        status="passed" if difference is None else "failed",
        detail=f"{entry.file}: {difference or 'as written again'}",
    )
