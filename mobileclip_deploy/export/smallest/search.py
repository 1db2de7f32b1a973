"""The search: candidates in the order of their bytes, the first that passes every gate is written.

A tower that fails its own gate is tried once, and whatever holds it is passed over; accuracy, which needs both towers,
is measured only for what is left. The bundle itself is then written and verified in full, as every export is: if that
fails, the search goes on. So what is returned has passed.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from mobileclip_deploy.bundle import MANIFEST, Bundle, staged_bundle
from mobileclip_deploy.errors import GateFailed, UsageError
from mobileclip_deploy.evaluation import Dataset, measure, model_embedder
from mobileclip_deploy.export.exporting import export_bundle
from mobileclip_deploy.export.smallest.candidates import Candidate, in_order, tower_choices
from mobileclip_deploy.export.smallest.sensitivity import Layer, measure_layers
from mobileclip_deploy.export.smallest.trials import Trials
from mobileclip_deploy.files import check_bundle_destination, write_whole
from mobileclip_deploy.folding import fold, is_folded
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Gates, ParityReport
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.targets import ExportOptions, Target
from mobileclip_deploy.towers import make_tower
from mobileclip_deploy.towers.calibration import calibration_inputs
from mobileclip_deploy.towers.inputs import sample_inputs
from mobileclip_deploy.verify.verification import TaskReference

__all__ = ["LOG", "Limits", "SearchLog", "Smallest", "Trial", "find_smallest"]

LOG = "smallest.json"


@dataclass(frozen=True)
class Limits:
    """`max_drop`: points of top-1 and recall@1 that may be lost. `budget`: minutes, None for as long as it takes."""

    max_drop: float = 0.5
    budget: float | None = None


class Trial(BaseModel):
    """One candidate: what it is, how large, and what became of it. `bytes` is None where it was passed over before
    both towers were written; `drops` are in points; `four_bit` names the layers of a "mixed" tower that have 4 bits."""

    model_config = ConfigDict(frozen=True)

    precisions: dict[TowerName, str]
    predicted_bytes: int
    bytes: int | None = None
    drops: dict[str, float] = {}
    four_bit: dict[TowerName, tuple[str, ...]] = {}
    outcome: Literal["passed", "failed"]
    reason: str | None = None


class SearchLog(BaseModel):
    """smallest.json: all that was tried, from the smallest upward; the last one is the bundle. `layers`: how sensitive
    each is, where the target can store layers at bits of their own."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    target: str
    max_drop: float
    dataset: str | None
    trials: tuple[Trial, ...]
    layers: dict[TowerName, tuple[Layer, ...]] = {}


@dataclass(frozen=True)
class Smallest:
    """The bundle, the report of its verification, and the log that stands in it too."""

    bundle: Bundle
    report: ParityReport
    log: SearchLog


def find_smallest(
    model: MobileCLIP,
    target: Target,
    output: Path,
    *,
    towers: tuple[TowerName, ...] = TOWERS,
    options: ExportOptions | None = None,
    gates: Gates | None = None,
    limits: Limits | None = None,
    force: bool = False,
    dataset: Dataset | None = None,
    progress: Progress = silent,
) -> Smallest:
    """Write `<output>/<variant>-<target>-smallest`, the smallest bundle that passes.

    What is computed is kept in a folder `.NAME.search` beside it until the bundle is there: the same command goes on
    where it was stopped, and decides the same.

    Args:
        model: loaded from a checkpoint; a training form is folded in place first.
        gates: the parity gates; accuracy's is `limits.max_drop`.
        dataset: what accuracy is compared on, when both towers are exported.

    Raises:
        UsageError: the destination or an option cannot be used.
        GateFailed: nothing passes, or the budget ended before anything did; nothing was written.
        DependencyMissing, ExportError: the converter is not installed or failed.
    """
    options, limits = options or ExportOptions(), limits or Limits()
    gates = replace(gates or Gates(), task=limits.max_drop)
    if options.multifunction:  # its towers cannot be tried one by one
        raise UsageError("smallest searches a precision for each tower; leave --multifunction out")
    target.require_installed()
    path = output / f"{model.variant.name}-{target.label}-smallest"
    check_bundle_destination(path, MANIFEST, force)
    started = time.monotonic()
    reference = Reference.compute(model, sample_inputs(model))
    measured = dataset is not None and set(towers) == set(TOWERS)
    folder = _folder(path, model, options)
    source = None
    if measured and dataset is not None:
        source = measure(
            model_embedder(model),
            dataset,
            cache=folder / "embeddings",
            progress=lambda text: progress(f"checkpoint: {text}"),
        )
    if not is_folded(model):
        fold(model)
    trials = Trials(model, target, options, gates, reference, dataset if measured else None, source, folder, progress)
    layers = {tower: _layers(trials, tower) for tower in towers} if target.mixes else {}
    choices = {
        tower: tower_choices(target, tower, make_tower(model, tower), options, layers.get(tower, ()))
        for tower in towers
    }
    task = TaskReference(dataset, source.result) if dataset is not None and source is not None else None
    tried: list[Trial] = []
    for candidate in in_order(choices):
        if limits.budget is not None and time.monotonic() - started > 60 * limits.budget:
            raise GateFailed(
                f"{path.name}: nothing passed within {limits.budget:g} minutes ({len(tried)} tried); the same command "
                "goes on from here, with a larger --budget"
            )
        named = {choice.tower: _names(layers.get(choice.tower, ()), choice.four_bit) for choice in candidate.choices}
        trial = _try(candidate, trials, gates)
        tried.append(trial.model_copy(update={"four_bit": {tower: names for tower, names in named.items() if names}}))
        if tried[-1].outcome == "failed":
            continue
        log = SearchLog(
            target=target.label,
            max_drop=limits.max_drop,
            dataset=dataset.name if measured and dataset is not None else None,
            trials=tuple(tried),
            layers=layers,
        )
        try:
            found = _write(model, trials, candidate, path, force, task, log)
        except GateFailed as error:
            tried[-1] = tried[-1].model_copy(update={"outcome": "failed", "reason": str(error)})
            continue
        shutil.rmtree(folder, ignore_errors=True)
        return found
    reasons = "; ".join(dict.fromkeys(trial.reason for trial in tried[-3:] if trial.reason))
    raise GateFailed(f"{path.name}: none of {len(tried)} candidates passes; the largest failed with: {reasons}")


def _names(layers: tuple[Layer, ...], chosen: frozenset[str]) -> tuple[str, ...]:
    return tuple(layer.name for layer in layers if layer.sha256 in chosen)


def _try(candidate: Candidate, trials: Trials, gates: Gates) -> Trial:
    size = 0
    for choice in candidate.choices:
        tower = trials.tower(choice)
        if tower.failed is not None:
            return Trial(
                precisions=candidate.precisions,
                predicted_bytes=candidate.predicted,
                outcome="failed",
                reason=tower.failed,
            )
        size += tower.bytes
    drops = trials.drops(candidate)
    over = [f"{name} drops by {drop:.2f} points" for name, drop in drops.items() if not drop <= gates.task]
    return Trial(
        precisions=candidate.precisions,
        predicted_bytes=candidate.predicted,
        bytes=size,
        drops={name: round(drop, 4) for name, drop in drops.items()},
        outcome="failed" if over else "passed",
        reason="; ".join(over) or None,
    )


def _layers(trials: Trials, tower: TowerName) -> tuple[Layer, ...]:
    """The sensitivity of a tower's layers, measured once a search."""
    file = trials.folder / f"{tower}-layers.json"
    adapter = TypeAdapter(tuple[Layer, ...])
    if file.exists():
        return adapter.validate_json(file.read_bytes())
    trials.progress(f"{tower} tower: sensitivity of its layers")
    inputs = calibration_inputs(trials.model.variant, tower, trials.options.calibration)
    mixable = partial(trials.target.mixable, tower)
    layers = tuple(measure_layers(make_tower(trials.model, tower), inputs, mixable))
    trials.folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, adapter.dump_json(layers))
    return layers


def _write(
    model: MobileCLIP,
    trials: Trials,
    candidate: Candidate,
    path: Path,
    force: bool,
    task: TaskReference | None,
    log: SearchLog,
) -> Smallest:
    """Write the bundle as any other, verified, and let it take its place under the name that was asked for."""
    precisions = candidate.precisions
    exported = export_bundle(
        model,
        trials.target,
        precisions,
        trials.folder / "bundle",
        towers=tuple(precisions),
        options=candidate.options(trials.options),
        gates=trials.gates,
        force=True,
        reference=trials.reference,
        task=task,
        progress=trials.progress,
    )
    assert exported.report is not None
    with staged_bundle(path, force) as staging:
        shutil.copytree(exported.bundle.path, staging, dirs_exist_ok=True)
        (staging / LOG).write_text(log.model_dump_json(indent=2) + "\n", encoding="utf-8")
    report = exported.report.model_copy(update={"bundle": path.name})
    return Smallest(Bundle(path, exported.bundle.manifest), report, log)


def _folder(path: Path, model: MobileCLIP, options: ExportOptions) -> Path:
    """Where a search keeps what it computed: another checkpoint or other options never find it."""
    assert model.provenance is not None
    settings = f"{model.provenance.sha256} {sorted(options.recorded().items())} {options.calibration}"
    return path.parent / f".{path.name}.search-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
