"""Verification: is what was written still the model of the checkpoint? Two steps, every stage on its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mobileclip_deploy.bundle import Bundle, preprocessor_config
from mobileclip_deploy.bundle.manifest import TensorEntry
from mobileclip_deploy.errors import InvalidInput, NotRun, RuntimeFailed
from mobileclip_deploy.evaluation import Dataset, EvaluationResult, bundle_embedder, evaluate, model_embedder
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Check, Gates, ParityReport, compare
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.targets import ExportOptions, Runner, installed_target
from mobileclip_deploy.targets.conversion import convert_again, tower_job
from mobileclip_deploy.towers import make_tower
from mobileclip_deploy.towers.inputs import embed
from mobileclip_deploy.verify.classifier import classifier_checks
from mobileclip_deploy.verify.reproduction import check_reproduced, is_reproducible

__all__ = [
    "TaskReference",
    "check_golden",
    "check_semantic",
    "check_settings",
    "check_shipped",
    "check_stages",
    "check_structure",
    "check_task",
    "verify_bundle",
]

# What an artifact may lose of, in points (Gates.task).
TASK_FIGURES = ("top1", "image_to_text_recall@1")


@dataclass(frozen=True)
class TaskReference:
    """A dataset, and the checkpoint's own figures on it."""

    dataset: Dataset
    checkpoint: EvaluationResult

    @classmethod
    def compute(cls, model: MobileCLIP, dataset: Dataset, progress: Progress) -> TaskReference:
        """Measure the checkpoint."""
        return cls(dataset, evaluate(model_embedder(model), dataset, progress=progress))


def verify_bundle(
    bundle: Bundle,
    reference: Reference,
    model: MobileCLIP | None,
    gates: Gates,
    *,
    stages: Mapping[TowerName, Sequence[Check]] | None = None,
    task: TaskReference | None = None,
    name: str | None = None,
    reproduce: bool = True,
    calibration: Path | None = None,
    progress: Progress = silent,
) -> ParityReport:
    """Run every check that can be run here on the artifacts of a bundle.

    Args:
        bundle: as opened; its files have been checked against its manifest.
        reference: inputs, and what the checkpoint answers for them.
        model: the folded checkpoint; the semantic step is not run without it.
        gates: the bounds.
        stages: what was measured while the artifacts were written; measured again when None and the model is given.
        task: what accuracy to compare; none is when None, or when the bundle has one tower only.
        name: what the report calls the bundle; its folder's name when None.
        calibration: the folder of images that the bundle was calibrated on, if on one of the exporter's.
        reproduce: convert again and compare what can be compared so; of no use right after a conversion.
    """
    name = name or bundle.path.name
    checks: list[Check] = []
    if bundle.manifest.classifier is not None:
        progress(f"{name}: classifier")
        found = classifier_checks(bundle, reference, model, check_structure(bundle, "image"))
        return ParityReport(
            bundle=name, variant=bundle.manifest.variant, target=bundle.manifest.target, checks=tuple(found)
        )
    for tower in bundle.manifest.towers:
        progress(f"{name}: {tower} tower, structure")
        checks.append(check_structure(bundle, tower))
        if model is None:
            reason = f"needs the checkpoint {bundle.manifest.checkpoint.file}; give it with --checkpoint"
            steps = ("twin", "reproduced") if reproduce and is_reproducible(bundle, tower) else ("twin",)
            checks += [Check.not_run(step, tower, reason) for step in steps]
        else:
            progress(f"{name}: {tower} tower, float32 twin")
            checks += check_semantic(bundle, tower, reference, model, gates)
            progress(f"{name}: {tower} tower, stages")
            checks += check_stages(bundle, tower, model) if stages is None else stages[tower]
        progress(f"{name}: {tower} tower, as written")
        checks += check_shipped(bundle, tower, reference, gates)
        if reproduce and model is not None and is_reproducible(bundle, tower):
            progress(f"{name}: {tower} tower, converted again")
            checks.append(check_reproduced(bundle, tower, model, calibration))
    manifest = bundle.manifest
    if task is not None and set(manifest.towers) == set(TOWERS):
        checks.append(check_task(bundle, task, gates, lambda text: progress(f"{name}: {text}")))
    return ParityReport(bundle=name, variant=manifest.variant, target=manifest.target, checks=tuple(checks))


def check_structure(bundle: Bundle, tower: TowerName) -> Check:
    """Names, types and shapes that the file declares against those that apps expect."""
    entry = bundle.manifest.towers[tower]
    target = installed_target(bundle.manifest.target, entry.function)
    try:
        found = tuple(TensorEntry.of(info) for info in target.describe(bundle.artifact(tower)))
    except InvalidInput as error:
        return Check(step="structure", tower=tower, status="failed", detail=str(error))
    wrong = [
        f"{which} is {_short(have)}, wanted {_short(want)}"
        for which, have, want in zip(("input", "output"), found, (entry.input, entry.output), strict=True)
        if (have.name, have.dtype, have.shape) != (want.name, want.dtype, want.shape)
        or have.colour not in (None, want.colour)  # ONNX has no word for colour
    ]
    names = f"{_short(entry.input)} -> {_short(entry.output)}"
    return Check(
        step="structure", tower=tower, status="failed" if wrong else "passed", detail="; ".join(wrong) or names
    )


def check_semantic(
    bundle: Bundle, tower: TowerName, reference: Reference, model: MobileCLIP, gates: Gates
) -> list[Check]:
    """Step 1, stage by stage in float32: folded model, tower, and the twin that the target converts and runs."""
    inputs, wanted = reference.inputs.of(tower), reference.of(tower)
    engine = f"torch {torch.__version__}"
    module = make_tower(model, tower)
    with torch.no_grad():
        prepared = torch.cat([module(batch) for batch in torch.from_numpy(inputs).split(32)]).numpy()
    checks = []
    if not reference.folded:
        folded = embed(model, tower, reference.inputs)
        checks.append(Check.semantic("folded", tower, compare(wanted, folded), gates, engine))
    checks.append(Check.semantic("tower", tower, compare(wanted, prepared), gates, engine))
    entry = bundle.manifest.towers[tower]
    if entry.precision == "fp32":
        return [*checks, _twin(tower, bundle.artifact(tower), bundle, entry.function, reference, gates)]
    with tempfile.TemporaryDirectory(prefix="mobileclip-twin-") as folder:
        path = convert_again(bundle, tower, model, "fp32", Path(folder))
        return [*checks, _twin(tower, path, bundle, None, reference, gates)]


def _twin(
    tower: TowerName, path: Path, bundle: Bundle, function: str | None, reference: Reference, gates: Gates
) -> Check:
    try:
        runner = installed_target(bundle.manifest.target, function).runner(path)
    except NotRun as error:
        return Check.not_run("twin", tower, str(error))
    return _run("twin", tower, runner, reference, "relative", gates.semantic)


def check_stages(bundle: Bundle, tower: TowerName, model: MobileCLIP) -> tuple[Check, ...]:
    """The stages of the artifact's own export, each against the one before it, for targets that have any.

    Where activations are measured, they are on the packaged samples: the bundle names its own images, but has them not.
    """
    entry = bundle.manifest.towers[tower]
    job = tower_job(model, tower, entry.precision, ExportOptions.restored(bundle.manifest.options))
    return installed_target(bundle.manifest.target).stage_checks(job, bundle.artifact(tower))


def check_shipped(bundle: Bundle, tower: TowerName, reference: Reference, gates: Gates) -> list[Check]:
    """Step 2: the artifact as written, at its own precision, worst over the inputs, on each engine there is here.

    An engine that refuses the artifact is a check that was not run, as long as another one takes it.

    Raises:
        InvalidInput: the artifact is damaged.
        RuntimeFailed: no engine takes it.
    """
    entry = bundle.manifest.towers[tower]
    metric, bound = gates.shipped(entry.precision)
    checks: list[Check] = []
    refusals: list[RuntimeFailed] = []
    for load in installed_target(bundle.manifest.target, entry.function).runners(bundle.artifact(tower)):
        try:
            checks.append(_run("shipped", tower, load(), reference, metric, bound))
        except RuntimeFailed as error:
            refusals.append(error)
            checks.append(Check.not_run("shipped", tower, str(error)))
    if len(refusals) == len(checks) and not isinstance(refusals[0], NotRun):
        raise refusals[0]
    return checks


def _run(step: str, tower: TowerName, runner: Runner, reference: Reference, metric: str, bound: float) -> Check:
    """Run every input, and compare the worst with its bound."""
    try:
        deviation = compare(reference.of(tower), runner(reference.inputs.of(tower)))
    except (InvalidInput, ValueError) as error:  # it takes or gives something of another shape
        return Check(step=step, tower=tower, status="failed", engine=runner.engine, detail=str(error))
    return Check.measured(step, tower, deviation, metric, bound, runner.engine)


def check_golden(bundle: Bundle, fresh: Reference, gates: Gates) -> list[Check]:
    """The embeddings stored in the bundle against the checkpoint's, for the same inputs."""
    stored = Reference.read(bundle.golden)
    engine = f"torch {torch.__version__}"
    return [
        Check.semantic("golden", tower, compare(fresh.of(tower), stored.of(tower)), gates, engine)
        for tower in bundle.manifest.towers
    ]


def check_settings(bundle: Bundle, model: MobileCLIP) -> Check:
    """What clients are told about inputs against the checkpoint's own: preprocessing, tokens, template.

    A wrong interpolation or padding moves no golden output, since those inputs are prepared already, and an app that
    follows the manifest or preprocessor_config.json would be wrong all the same.
    """
    manifest, variant = bundle.manifest, model.variant
    pairs: list[tuple[str, object, object]] = [
        (f"preprocess.{name}", getattr(manifest.preprocess, name), value)
        for name, value in variant.preprocess.model_dump().items()
    ]
    pairs += [
        (f"tokenizer.{name}", getattr(manifest.tokenizer, name), value)
        for name, value in variant.tokenizer.model_dump().items()
    ]
    pairs.append(("template", manifest.template, variant.template))
    told = _read_config(bundle.path / preprocessor_config.NAME)
    wanted = preprocessor_config.preprocessor_config(variant.preprocess)
    pairs += [(f"{preprocessor_config.NAME} {name}", told.get(name), value) for name, value in wanted.items()]
    wrong = [f"{name} is {found}, the checkpoint has {right}" for name, found, right in pairs if found != right]
    return Check(
        step="settings",
        tower="both",
        status="failed" if wrong else "passed",
        detail="; ".join(wrong) or "preprocessing, tokens and template are the checkpoint's",
    )


def _read_config(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}; export the bundle again") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} is not an object; export the bundle again")
    return value


def check_task(bundle: Bundle, task: TaskReference, gates: Gates, progress: Progress = silent) -> Check:
    """What the artifacts lose on the task, in points, against the checkpoint; gaining is not failing."""
    try:
        embedder = bundle_embedder(bundle)
    except NotRun as error:
        return Check.not_run("task", "both", str(error))
    measured = evaluate(embedder, task.dataset, progress=progress)
    figures = {name: interval.value for name, interval in measured.figures.items() if name in TASK_FIGURES}
    drops = {name: task.checkpoint.figures[name].value - value for name, value in figures.items()}
    within = all(drop <= gates.task for drop in drops.values())
    return Check(
        step="task",
        tower="both",
        status="passed" if within else "failed",
        engine=measured.engine,
        gate=f"drop <= {gates.task:g} points",
        figures=figures | {f"{name}_drop": drop for name, drop in drops.items()},
    )


def _short(entry: TensorEntry) -> str:
    shape = ", ".join(str(size) if size else "N" for size in entry.shape)
    return f"{entry.name} {entry.colour or ''}{' ' if entry.colour else ''}{entry.dtype} [{shape}]"
