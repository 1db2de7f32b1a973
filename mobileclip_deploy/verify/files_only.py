"""The checks that need neither the checkpoint nor torch: files, and the artifacts' answers to the stored inputs."""

import contextlib

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.parity import Check, Gates, ParityReport
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.checks.companions import check_companions_by_card
from mobileclip_deploy.verify.checks.files import check_files, unlisted_note
from mobileclip_deploy.verify.checks.shipped import check_shipped
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject, collapsed_towers, replaced_gates

LEFT_OUT = "compares with the checkpoint"
COMPARED = ("golden", "tower", "twin", "weights", "graph", "reproduced", "task")
"""Steps of a whole verification that compare with the checkpoint."""


def verify_files(subject: Bundle | StrPath, gates: Gates | None = None) -> tuple[Bundle, ParityReport]:
    """Checks that a bundle arrived as it was exported, and that its artifacts give the stored answers here.

    Says nothing about the checkpoint: whoever edits an artifact can edit the stored answers and hashes, too.

    Args:
        subject: a bundle or its folder; files of an open one are hashed again, since they may have changed.

    Raises:
        InvalidInput: the bundle is damaged, or a file has another size or hash.
        NotRun, RuntimeFailed: nothing here can run it.
    """
    bundle = Bundle.open(subject.path if isinstance(subject, Bundle) else subject)
    evidence = Evidence(Reference.read(bundle.golden))
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        opened = OpenedSubject(bundle, evidence, gates or bundle.manifest.gates, folder)
        stack.enter_context(contextlib.closing(opened))
        same = "every listed file has the size and SHA-256 of the manifest"
        checks = [Check(step="hashes", tower="both", status="passed", detail=same), *check_files(opened)]
        checks.append(check_companions_by_card(opened))
        for tower in opened.towers.values():
            checks += check_shipped(tower)
        return bundle, ParityReport(
            bundle=opened.name,
            variant=bundle.manifest.variant,
            target=bundle.manifest.target,
            checks=(*checks, *(Check.not_wanted(step, "both", LEFT_OUT) for step in COMPARED)),
            notes=(*collapsed_towers(opened), *unlisted_note(opened)),
            gates=replaced_gates(opened),
            on_word=("the stored answers",),
        )
