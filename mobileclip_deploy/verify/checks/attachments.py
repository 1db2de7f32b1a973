"""Checks of optional files written next to an artifact (.ort), which apps load instead of it."""

from collections.abc import Iterator

import numpy as np

from mobileclip_deploy.artifacts.bundle.manifest import AttachmentEntry
from mobileclip_deploy.errors import ExportError, InvalidInput, NotRun, RuntimeFailed
from mobileclip_deploy.parity import Check, value_tolerance
from mobileclip_deploy.parity.gates import LEAST, MULTIPLE, exported_gates
from mobileclip_deploy.targets.artifact import Attached
from mobileclip_deploy.verify.instruments.versions import FORMER, other_versions
from mobileclip_deploy.verify.subject import OpenedSubject, TowerProof


def check_attachments(tower: TowerProof) -> Iterator[Check]:
    """Checks the answers of each attachment of a tower, and compares it with one written from the artifact now.

    Other checks compare the artifact with the checkpoint, so an attachment of another network cannot pass.
    """
    subject, attached = tower.subject, tower.entry.attachments or {}
    required = () if subject.head.names else subject.target.options.attachments  # a classifier is written without any
    for kind in required:
        if kind not in attached:
            yield Check.failed(kind, tower.name, "the options require it, but it is missing")
    for kind, entry in attached.items():
        path = subject.bundle.path / entry.file
        opened = subject.target.open_attached(kind, path)
        if kind in FORMER:
            yield Check.not_wanted(kind, tower.name, f"{entry.file}: mobileclip-deploy 0.4.0 checks it")
            continue
        if opened is None:
            reason = f"{entry.file}: {subject.target.name} of this version can neither run nor write it"
            yield Check.not_run(kind, tower.name, reason)
            continue
        yield from _answers(tower, kind, opened)
        yield _written_again(tower, kind, entry, opened)


def _answers(tower: TowerProof, kind: str, opened: Attached) -> Iterator[Check]:
    """Yields the check of the attachment's answers, with the bound of its artifact."""
    try:
        runner = opened.runner()
        outputs, expected = runner(tower.inputs), tower.expected
        yield Check.of_answers(f"{kind} answers", tower.name, expected, outputs, tower.bound, runner.engine)
    except NotRun as error:
        yield Check.not_run(f"{kind} answers", tower.name, str(error))
    except (InvalidInput, RuntimeFailed) as error:
        yield Check.failed(f"{kind} answers", tower.name, str(error))


def _written_again(tower: TowerProof, kind: str, entry: AttachmentEntry, opened: Attached) -> Check:
    subject = tower.subject
    assert isinstance(subject, OpenedSubject)
    outputs = subject.head.scaled(subject.stored.of(tower.name))
    bound = exported_gates(subject.bundle.manifest.options).shipped(tower.precision)  # as at export
    tolerance = value_tolerance(np.asarray(outputs), bound.metric, bound.value)
    # Golden answers are held to this bound, and the root mean square behind the tolerance moves by no more.
    room = tolerance * max(MULTIPLE * (tower.floor or 0.0), LEAST)
    if entry.tolerance is None or not abs(entry.tolerance - tolerance) <= room:
        detail = f"{entry.file}: the manifest tolerates {entry.tolerance}, the gate of its export {tolerance:.6g}"
        return Check.failed(kind, tower.name, detail)
    try:
        difference = opened.difference(subject.bundle.artifact(tower.name))
    except (NotRun, ExportError) as error:
        return Check.not_run(kind, tower.name, str(error))
    except InvalidInput as error:
        return Check.failed(kind, tower.name, str(error))
    others = other_versions(subject.bundle, subject.target)
    if difference is not None and others:
        reason = f"differs from one written here, but was written by other versions ({others}); verify with those"
        return Check.not_run(kind, tower.name, f"{entry.file} {reason}: {difference}")
    fault = None if difference is None else f"{entry.file}: {difference}"
    return Check.of_fault(kind, tower.name, fault, f"{entry.file}: as written again")
