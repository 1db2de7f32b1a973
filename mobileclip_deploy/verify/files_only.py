"""The checks that need neither the checkpoint nor torch: files, and the artifacts' answers to the stored inputs."""

from __future__ import annotations

import contextlib

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.parity import Check, Gates, ParityReport
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks.files import check_files, unlisted_note
from mobileclip_deploy.verify.checks.shipped import check_shipped
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject, collapsed_towers, replaced_gates

LEFT_OUT = "compares with the checkpoint"
COMPARED = ("golden", "tower", "twin", "weights", "graph", "reproduced", "task")
"""Steps of a whole verification that compare with the checkpoint."""


def verify_files(bundle: Bundle, gates: Gates | None = None) -> ParityReport:
    """Checks that a bundle arrived as it was exported, and that its artifacts give the stored answers here.

    Says nothing about the checkpoint: whoever edits an artifact can edit the stored answers and hashes, too.

    Raises:
        InvalidInput: the bundle is damaged.
        NotRun, RuntimeFailed: nothing here can run it.
    """
    reference = Reference.read(bundle.golden)
    subject = OpenedSubject(bundle, Evidence(reference), gates or bundle.manifest.gates, bundle.path)
    with contextlib.closing(subject):
        same = "every listed file has the size and SHA-256 of the manifest"
        checks = [Check(step="hashes", tower="both", status="passed", detail=same), *check_files(subject)]
        for tower in subject.towers.values():
            checks += check_shipped(tower)
        return ParityReport(
            bundle=subject.name,
            variant=bundle.manifest.variant,
            target=bundle.manifest.target,
            checks=(*checks, *(Check.not_wanted(step, "both", LEFT_OUT) for step in COMPARED)),
            notes=(*collapsed_towers(subject), *unlisted_note(subject)),
            gates=replaced_gates(subject),
            on_word=("the stored answers",),
        )
