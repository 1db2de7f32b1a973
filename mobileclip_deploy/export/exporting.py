"""Export: a model becomes a bundle, which is verified before it takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileclip_deploy.bundle import MANIFEST, Bundle, staged_bundle
from mobileclip_deploy.errors import CheckpointError, GateFailed, UsageError
from mobileclip_deploy.evaluation import Dataset
from mobileclip_deploy.export.contents import attach, make_manifest, tower_entry, write_companions, write_manifest
from mobileclip_deploy.files import check_bundle_destination
from mobileclip_deploy.folding import fold, is_folded
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.precision import parse_precisions, precision_label
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Check, Gates, ParityReport
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.targets import ExportOptions, Target, TowerJob, check_options
from mobileclip_deploy.targets.conversion import tower_job
from mobileclip_deploy.towers.classifier import LabelSet, labels_json
from mobileclip_deploy.towers.inputs import sample_inputs
from mobileclip_deploy.verify.verification import TaskReference, verify_bundle

__all__ = ["Exported", "bundle_path", "check_export", "chosen_towers", "export_bundle", "export_many"]


@dataclass(frozen=True)
class Exported:
    """A bundle that was written, and the report of its verification (None when that was not wanted)."""

    bundle: Bundle
    report: ParityReport | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the bundle's path, its manifest, and whether every check was run and passed."""
        passed = self.report.passed if self.report is not None else None
        manifest = self.bundle.manifest.model_dump(mode="json", exclude_none=True)
        return {"bundle": str(self.bundle.path), "passed": passed, "manifest": manifest}


def export_many(
    model: MobileCLIP,
    targets: Sequence[Target],
    precisions: Sequence[dict[TowerName, str]],
    output: Path,
    *,
    skip_lacking: bool = False,
    tower: str = "both",
    options: ExportOptions | None = None,
    gates: Gates | None = None,
    verify: bool = True,
    force: bool = False,
    allow_failing: bool = False,
    labels: LabelSet | None = None,
    dataset: Dataset | None = None,
    progress: Progress = silent,
) -> list[Exported]:
    """Write a bundle for each target and precision; everything that can be refused is, before the first conversion.

    Args, Raises: as `export_bundle`; `tower` is "image", "text" or "both" (those the checkpoint has), `dataset` is what
    accuracy is compared on when both towers are verified. Without `precisions` a target gets its default one;
    `skip_lacking` leaves out what a target does not have instead of refusing it.
    """
    options, towers = options or ExportOptions(), chosen_towers(model, tower)
    choices = check_export(
        model,
        targets,
        precisions,
        output,
        tower=tower,
        options=options,
        force=force,
        skip_lacking=skip_lacking,
        labels=labels,
    )
    progress("reference embeddings")
    reference = Reference.compute(model, sample_inputs(model))
    task = None
    if verify and dataset is not None and towers == TOWERS:
        task = TaskReference.compute(model, dataset, lambda text: progress(f"checkpoint: {text}"))
    return [
        export_bundle(
            model,
            target,
            choice,
            output,
            towers=towers,
            options=options,
            gates=gates,
            verify=verify,
            force=force,
            allow_failing=allow_failing,
            labels=labels,
            reference=reference,
            task=task,
            progress=progress,
        )
        for target, choice in choices
    ]


def check_export(
    model: MobileCLIP,
    targets: Sequence[Target],
    precisions: Sequence[dict[TowerName, str]],
    output: Path,
    *,
    skip_lacking: bool = False,
    tower: str = "both",
    options: ExportOptions | None = None,
    force: bool = False,
    labels: LabelSet | None = None,
) -> list[tuple[Target, dict[TowerName, str]]]:
    """Refuse an export that cannot succeed, in no time; gives the bundles to write, each once.

    `skip_lacking` leaves out what a target does not have.

    Raises:
        UsageError, DependencyMissing: as `export_bundle`.
    """
    towers = chosen_towers(model, tower)
    check_options(targets, options or ExportOptions())
    if labels is not None and (towers != ("image",) or "text" not in model.towers):
        raise UsageError("a classifier is the image tower alone, and its labels need a checkpoint with a text tower")
    choices: dict[Path, tuple[Target, dict[TowerName, str]]] = {}
    for target in targets:
        for named in precisions or [parse_precisions(target.default_precision)]:
            choice = {name: named[name] for name in towers}
            if skip_lacking and not target.has(choice):
                continue
            target.require(choice, options or ExportOptions())
            choices[bundle_path(output, model.variant.name, target, choice, labels)] = target, choice
    for path in choices:
        check_bundle_destination(path, MANIFEST, force)
    return list(choices.values())


def chosen_towers(model: MobileCLIP, wanted: str) -> tuple[TowerName, ...]:
    """The towers to export: "image", "text" or "both", which is all that the checkpoint has.

    Raises:
        UsageError: another name, or a tower that it does not have.
    """
    if wanted not in (*TOWERS, "both"):
        raise UsageError(f"unknown tower {wanted!r}; known: {', '.join(TOWERS)}, both")
    towers: tuple[TowerName, ...] = tuple(t for t in TOWERS if t in model.towers and wanted in (t, "both"))
    if not towers:
        raise UsageError(f"this checkpoint has no {wanted} tower; export the one it has with --tower {model.towers[0]}")
    return towers


def bundle_path(
    output: Path, variant: str, target: Target, precisions: dict[TowerName, str], labels: LabelSet | None = None
) -> Path:
    """`<output>/<variant>-<target>-<precision>[-classifier]`; ExecuTorch's other backends: `executorch-<backend>`."""
    kind = "" if labels is None else "-classifier"
    return output / f"{variant}-{target.label}-{precision_label(precisions)}{kind}"


def export_bundle(
    model: MobileCLIP,
    target: Target,
    precisions: dict[TowerName, str],
    output: Path,
    *,
    towers: Sequence[TowerName] = TOWERS,
    options: ExportOptions | None = None,
    gates: Gates | None = None,
    verify: bool = True,
    force: bool = False,
    allow_failing: bool = False,
    labels: LabelSet | None = None,
    reference: Reference | None = None,
    task: TaskReference | None = None,
    progress: Progress = silent,
) -> Exported:
    """Write a verified bundle to `bundle_path(...)`; whole or, whatever goes wrong, not at all.

    Args:
        model: loaded from a checkpoint. A training form is folded in place first.
        precisions: one for each tower.
        towers: which towers to write.
        verify: run both parity steps before the bundle takes its place.
        force: replace a bundle that is there.
        allow_failing: write a bundle that fails its gate all the same, marked as such: the failed checks in its
            manifest's `parity`, `allow_failing` in its `options`, FAILED in its model card.
        labels: write a classifier of these labels instead of the image tower, which must be the only one.
        reference: what the checkpoint answers for the sample inputs, when several exports share it.
        task: accuracy to be compared as well.

    Raises:
        UsageError: destination, precision or option that cannot be used; nothing was written.
        GateFailed: verified and found too far from the checkpoint; nothing was written (see `allow_failing`).
        ExportError, DependencyMissing: the converter failed or is not installed.
    """
    if model.provenance is None:
        raise CheckpointError("this model has no provenance; load it with load_model, so that the bundle can name it")
    options, gates = options or ExportOptions(), gates or Gates()
    target.require(precisions, options)
    options = target.settle(precisions, options)
    precisions = {tower: precisions[tower] for tower in towers}
    path = bundle_path(output, model.variant.name, target, precisions, labels)
    with staged_bundle(path, force) as staging:
        progress(f"{path.name}: reference embeddings")
        reference = reference or Reference.compute(model, sample_inputs(model))
        if not is_folded(model):
            fold(model)
        files, stages = {}, {}
        for tower in towers:
            progress(f"{path.name}: {tower} tower, converting")
            job = tower_job(model, tower, precisions[tower], options, labels)
            files[tower], stages[tower] = _write_tower(job, target, staging)
        entries = {}
        for tower, place in target.place(staging, model.variant, files, options).items():
            entry = tower_entry(model, target, tower, precisions[tower], place, options, staging, labels)
            entries[tower] = entry if labels else attach(entry, target, tower, reference, gates, options, staging)
        manifest = make_manifest(model, target, entries, options, labels)
        write_companions(model, target, staging, reference, manifest)
        if not verify:
            return Exported(Bundle(path, manifest), None)
        staged = Bundle(staging, manifest)
        report = verify_bundle(
            staged,
            reference,
            model,
            gates,
            stages=stages,
            task=task,
            name=path.name,
            reproduce=False,
            progress=progress,
        )
        marks = dict(manifest.options)
        if report.failed:
            failures = "; ".join(f"{check.tower} {check.step} ({check.describe()})" for check in report.failed)
            if not allow_failing:
                raise GateFailed(
                    f"{path.name} was not written, it failed its gate: {failures}; to look into it, write it marked as "
                    "failed with --allow-failing"
                )
            marks["allow_failing"] = "yes"
        manifest = manifest.model_copy(update={"parity": report.checks, "options": marks})
        write_manifest(staging, manifest)
    return Exported(Bundle(path, manifest), report)


def _write_tower(job: TowerJob, target: Target, folder: Path) -> tuple[str, tuple[Check, ...]]:
    """Write the artifact: its path inside the folder, and what its stages were measured to be."""
    variant, precision = job.variant, job.precision
    name = target.artifact_name(variant, job.tower, precision)
    if job.labels:
        name = target.classifier_name(variant, precision)
    stages = target.export_in_stages(job, folder / name)
    if job.labels:
        ((folder / name).parent / "labels.json").write_text(labels_json(job.labels), encoding="utf-8")
    return name, stages
