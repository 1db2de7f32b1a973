"""Steps of one bundle, from its plan to its published folder."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from mobileclip_deploy.artifacts.bundle import Bundle, Manifest, staged_bundle
from mobileclip_deploy.artifacts.bundle.licences import write_licences
from mobileclip_deploy.artifacts.bundle.manifest import (
    MEASUREMENTS,
    AttachmentEntry,
    Measurements,
    TowerEntry,
    processor_name,
)
from mobileclip_deploy.artifacts.heads.labels import labels_json
from mobileclip_deploy.base.files.names import within
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import GateFailed, MobileClipDeployError
from mobileclip_deploy.export.contents import (
    attach,
    int8_scale_of,
    make_manifest,
    record_rounding,
    tower_entry,
    write_companion_files,
    write_manifest,
)
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.precision import PRECISIONS, precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.rounding.kept import forget
from mobileclip_deploy.rounding.rounding import Learning, Rounded, round_source
from mobileclip_deploy.targets import TowerJob
from mobileclip_deploy.targets.jobs import tower_job
from mobileclip_deploy.targets.values import Shared
from mobileclip_deploy.verify.chain import verify_subject
from mobileclip_deploy.verify.subject import Evidence, WrittenSubject


@dataclass(frozen=True)
class Written:
    """A published bundle, and the report of its verification (None if not requested).

    `written`: False for one that failed its gate and was therefore not published.
    """

    bundle: Bundle
    report: ParityReport | None
    written: bool = field(default=True, kw_only=True)

    @property
    def path(self) -> Path:
        """Folder of the bundle."""
        return self.bundle.path

    def as_dict(self) -> dict[str, Any]:
        """Returns for JSON the bundle's path, whether it was written, its manifest, its checks, and whether every one
        ran and passed."""
        passed = self.report.passed if self.report is not None else None
        manifest = self.bundle.manifest.as_dict()
        report_checks = () if self.report is None else self.report.checks
        checks = [check.model_dump(mode="json", exclude_none=True) for check in report_checks]
        path = str(self.bundle.path)
        return {"bundle": path, "written": self.written, "passed": passed, "manifest": manifest, "parity": checks}


@dataclass(frozen=True)
class NotWritten:
    """A bundle that could not be made, and the reason."""

    written: ClassVar[bool] = False
    report: ClassVar[None] = None
    path: Path
    failure: MobileClipDeployError

    def as_dict(self) -> dict[str, Any]:
        """Returns for JSON the same keys as for a written bundle, and the error."""
        lacking: dict[str, Any] = {"bundle": str(self.path), "written": False, "passed": False}
        return lacking | {"manifest": None, "parity": [], "error": self.failure.as_dict()}


class ExportGateFailed(GateFailed):
    """Error of a bundle that failed its gate."""

    kind = GateFailed.kind

    def __init__(self, text: str, result: Written | NotWritten) -> None:
        super().__init__(text)
        self.results = (result,)


@dataclass
class ExportState:
    """A bundle in progress: the plan, the values shared by all bundles of a source, and the results of the steps so
    far.

    `folder` becomes the bundle at the end; until then there is nothing at its path. `converted`: a folder for the
    conversions of its checks.
    """

    plan: BundlePlan
    source: Source
    evidence: Evidence
    folder: Path
    converted: Path
    progress: Progress = silent
    rounded: Rounded | None = None
    jobs: dict[TowerName, TowerJob] = field(default_factory=dict)
    files: dict[TowerName, str] = field(default_factory=dict)
    stages: dict[TowerName, tuple[Check, ...]] = field(default_factory=dict)
    manifest: Manifest | None = None
    report: ParityReport | None = None

    def report_progress(self, text: str) -> None:
        """Reports progress, with the bundle's name."""
        self.progress(f"{self.plan.path.name}: {text}")

    @cached_property
    def subject(self) -> WrittenSubject:
        """Bundle to check. Available after the step `describe`."""
        assert self.manifest is not None
        return WrittenSubject(
            Bundle(self.folder, self.manifest),
            self.evidence,
            self.plan.request.gates,
            self.converted,
            source=self.source,
            calibration=self.plan.request.calibration,
            name=self.plan.path.name,
            progress=self.progress,
            measured=self.stages,
            mixed=self.plan.four_bit,
            shared={name: job.shared for name, job in self.jobs.items() if job.shared is not None},
        )

    @property
    def written(self) -> Written:
        """The published bundle."""
        assert self.manifest is not None
        return Written(Bundle(self.plan.path, self.manifest), self.report)


def write_bundle(plan: BundlePlan, source: Source, evidence: Evidence, progress: Progress = silent) -> Written:
    """Writes a bundle whose precisions are known, whole or not at all.

    Raises:
        UsageError: the destination cannot be used.
        GateFailed: verified and found too far from the checkpoint; nothing was written (see `allow_failing`).
        ExportError: the converter failed.
    """
    with unverified_bundle(plan, source, evidence, progress) as work:
        pass
    return work.written


@contextlib.contextmanager
def unverified_bundle(
    plan: BundlePlan, source: Source, evidence: Evidence, progress: Progress = silent
) -> Iterator[ExportState]:
    """Yields a bundle whose files are written as by `write_bundle`, but not checked yet.

    It is checked and published if the block succeeds, and removed if it fails.

    Raises:
        UsageError, GateFailed, ExportError: see `write_bundle`.
    """
    with staged_bundle(plan.path, plan.request.writing.force) as folder, temporary_folder() as converted:
        work = ExportState(plan, source, evidence, folder, converted, progress)
        for step in STEPS[:-CHECKED]:
            step(work)
        try:
            yield work
            for step in STEPS[-CHECKED:]:
                step(work)
        finally:
            work.subject.close()
    if plan.learned_on is not None:
        forget(kept_rounding(plan))


def kept_rounding(plan: BundlePlan) -> Path:
    """Returns the folder next to the bundle that caches towers with learned rounding until the bundle is written."""
    return plan.path.with_name(f"{plan.path.name}.learned")


def fold(work: ExportState) -> None:
    """Folds branches and BatchNorms into plain layers. The evidence already has the training form's embeddings."""
    work.source.folded()


def learn(work: ExportState) -> None:
    """Learns the rounding of weights on a copy of the checkpoint, if requested."""
    plan = work.plan
    if plan.learned_on is None:
        return
    learning = Learning(plan.request.rounding, plan.four_bit, kept_rounding(plan))
    work.rounded = round_source(
        work.source, plan.target, plan.precisions, plan.learned_on, learning, work.report_progress
    )
    for outcome in work.rounded.towers:
        work.report_progress(outcome.describe())


def tower(work: ExportState) -> None:
    """Makes the module to convert, each tower with its head, and the inputs that its ranges are measured on."""
    plan = work.plan
    for name, precision in plan.precisions.items():
        source = work.source if work.rounded is None else work.rounded.source
        job = tower_job(
            source, name, precision, head=plan.request.head, form=plan.form, calibration=plan.request.calibration
        )
        twin = plan.request.writing.verify and work.rounded is None and precision != "fp32"  # `check` converts the twin
        four_bit = plan.four_bit.get(name, frozenset())
        work.jobs[name] = replace(job, four_bit=four_bit, shared=Shared() if twin else None)


def write(work: ExportState) -> None:
    """Writes the artifacts, and the labels of a classifier next to its artifact."""
    plan = work.plan
    for name, job in work.jobs.items():
        work.report_progress(f"{name} tower, converting")
        file_name = plan.target.artifact_name if plan.request.layout is None else plan.request.layout.file
        file = file_name(job.variant, job.artifact, job.precision)
        path = within(work.folder, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        work.stages[name] = plan.target.write(job, path)
        if job.labels:
            (path.parent / "labels.json").write_text(labels_json(job.labels), encoding="utf-8")
        work.files[name] = file


def describe(work: ExportState) -> None:
    """Writes the manifest, and the files that clients read: tokenizer, preprocessing, golden embeddings."""
    plan, reference = work.plan, work.evidence.reference
    entries: dict[TowerName, TowerEntry] = {}
    joint = plan.target.join(work.folder, work.files, work.source.model.scores.scale)
    for name, place in plan.target.place(work.folder, work.source.variant, work.files).items():
        entry = tower_entry(plan, work.source.variant, name, place, work.folder)
        entries[name] = entry if plan.request.head.names else attach(entry, plan, name, reference, work.folder)
    work.manifest = make_manifest(plan, work.source, entries, work.folder, reference)
    updates: dict[str, Any] = {"joint": None if joint is None else AttachmentEntry.of(joint, work.folder)}
    updates |= {"int8_scale": int8_scale_of(plan, work.source, reference)}
    if work.rounded is not None:
        updates["rounding"] = record_rounding(plan, work.source, work.rounded, Bundle(work.folder, work.manifest))
    if plan.relevance is not None:
        updates["relevance"] = plan.relevance.write(work.folder, reference.of("text"))
    work.manifest = work.manifest.model_copy(update=updates)
    licence = write_licences(work.folder, work.manifest, plan.request.licence_text)
    work.manifest = work.manifest.model_copy(update={"licence": licence})
    write_companion_files(plan, work.source, work.folder, reference)
    write_manifest(work.folder, work.manifest, work.subject.facts)


def check(work: ExportState) -> None:
    """Runs every check that can run here, on the files as they were written.

    Raises:
        GateFailed: a check failed, and failing bundles are not allowed.
    """
    plan, manifest = work.plan, work.manifest
    if not plan.request.writing.verify:
        return
    assert manifest is not None
    work.report = verify_subject(work.subject)
    if work.evidence.cut is not None:
        work.report = work.report.model_copy(update={"checks": (*work.report.checks, work.evidence.cut)})
    failures = "; ".join(
        f"{failed_check.tower} {failed_check.step} ({failed_check.describe()})" for failed_check in work.report.failed
    )
    if failures and not plan.request.writing.allow_failing:
        raise ExportGateFailed(
            f"{plan.path.name} ({Bundle(work.folder, manifest).bytes / 1e6:.2f} MB) was not written because a gate "
            f"failed: {failures}; {_next_step(plan, work.report)}to inspect it, write it marked as failed with "
            "`allow_failing=True`",
            Written(Bundle(plan.path, manifest), work.report, written=False),
        )


def _next_step(plan: BundlePlan, report: ParityReport) -> str:
    """Suggests next steps if the precision loses too much; empty if the conversion went wrong."""
    if plan.four_bit or {check.step for check in report.failed} - {"shipped", "task"}:
        return ""
    from mobileclip_deploy.rounding.methods import LEARNABLE

    bits = min(precision_of(name).stored_bits for name in plan.precisions.values())
    if bits == 32:
        return ""
    finer = [
        name
        for name in plan.target.capabilities.storing.precisions
        if PRECISIONS[name].stored_bits > bits and plan.target.has(dict.fromkeys(plan.precisions, name))
    ]
    finer.sort(key=lambda name: PRECISIONS[name].stored_bits)
    steps = [f"try {' or '.join(finer)}"] if finer else []
    steps += ["let `precision='smallest'` search"]
    rests = {precision_of(name).rest for name in plan.precisions.values()}  # a table of words may have any
    if plan.target.capabilities.storing.learns_rounding and plan.learned_on is None and rests & set(LEARNABLE):
        steps += ["learn its rounding (`rounding='gptq'`)"]
    return f"{', or '.join(steps)}; "


def publish(work: ExportState) -> None:
    """Writes the measurements to a file of their own, and the outcomes into the model card; then the folder becomes the
    bundle."""
    if work.report is None or work.manifest is None:
        return
    marks = {"allow_failing": "yes"} if work.report.failed else {}
    options = work.manifest.options | marks
    work.manifest = work.manifest.model_copy(update={"measurements": MEASUREMENTS, "options": options})
    measured = Measurements(
        threads=torch.get_num_threads(),
        processor=processor_name(),
        capability=torch.backends.cpu.get_cpu_capability(),
        environment=work.manifest.environment,
        floor=work.report.floor,
        checks=work.report.checks,
    )
    (work.folder / MEASUREMENTS).write_text(measured.to_json(), encoding="utf-8")
    write_manifest(work.folder, work.manifest, work.subject.facts, work.report.checks, work.report.storage)


STEPS: tuple[Callable[[ExportState], None], ...] = (fold, learn, tower, write, describe, check, publish)
"""Steps of a bundle, in order. `export.plan` has already resolved the request and refused impossible ones."""
CHECKED = 2
"""Number of last steps that run after other bundles may have been made."""
