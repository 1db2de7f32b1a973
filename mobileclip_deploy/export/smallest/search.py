"""The search: candidates in the order of their bytes, the first that passes every gate is written.

A tower that fails its own gate is tried once, and whatever holds it is passed over; accuracy, which needs both towers,
is measured only for what is left. The bundle itself is then written and verified in full, as every export is: if that
fails, the search goes on. So what is returned has passed. Accuracy is confirmed on other images than it was chosen on:
of many candidates the first that passes has luck on its side.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from mobileclip_deploy.bundle import Bundle, staged_bundle
from mobileclip_deploy.bundle.opening import SEARCH_LOG
from mobileclip_deploy.checkpoints.source import Source
from mobileclip_deploy.errors import GateFailed, Undecided
from mobileclip_deploy.evaluation import Dataset, Looks, Measuring, measure, model_embedder
from mobileclip_deploy.export.plan import BundlePlan, Limits
from mobileclip_deploy.export.smallest.candidates import Candidate, four_bit_layers, in_order, tower_choices
from mobileclip_deploy.export.smallest.sensitivity import Layer, measure_layers
from mobileclip_deploy.export.smallest.trials import Trials
from mobileclip_deploy.export.steps import ExportGateFailed, Written, write_bundle
from mobileclip_deploy.files import write_whole
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.progress import Progress, about, silent
from mobileclip_deploy.towers import make_tower
from mobileclip_deploy.towers.calibration import calibration_inputs
from mobileclip_deploy.verify.subject import Evidence, checkpoint_looks

__all__ = ["NothingPasses", "SearchLog", "Smallest", "Trial", "find_smallest"]


class Trial(BaseModel):
    """One candidate: what it is, how large, and what became of it. `bytes` is None where it was passed over before
    both towers were written; `drops` are in points; `four_bit` names the layers of a "mixed" tower that have 4 bits."""

    model_config = ConfigDict(frozen=True)

    precisions: dict[TowerName, str]
    predicted_bytes: int
    bytes: int | None = None
    drops: dict[str, float] = {}
    four_bit: dict[TowerName, tuple[str, ...]] = {}
    outcome: Literal["passed", "failed", "undecided"]
    reason: str | None = None


class SearchLog(BaseModel):
    """smallest.json: all that was tried, from the smallest upward; the last one is the bundle. `layers`: how sensitive
    each is, where the target can store layers at bits of their own."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    target: str
    max_drop: float
    max_size: float | None = None
    dataset: str | None
    trials: tuple[Trial, ...]
    layers: dict[TowerName, tuple[Layer, ...]] = {}


@dataclass(frozen=True)
class Smallest(Written):
    """The bundle, the report of its verification, and the log that stands in it too."""

    log: SearchLog

    def as_dict(self) -> dict[str, Any]:
        """For JSON: as of any bundle, and the search."""
        return super().as_dict() | {"search": self.log.model_dump(mode="json")}


class NothingPasses(ExportGateFailed):
    """A search ended without a bundle. `path`: where it would be; `log`: what was tried."""

    kind = ExportGateFailed.kind

    def __init__(self, text: str, path: Path, log: SearchLog) -> None:
        super().__init__(text, ())
        self.path, self.log = path, log

    def as_list(self) -> list[dict[str, Any]]:
        """For JSON: the bundles before, and the search in place of one."""
        lacking = {"bundle": str(self.path), "written": False, "passed": False, "manifest": None, "parity": []}
        return [*super().as_list(), lacking | {"search": self.log.model_dump(mode="json")}]


def find_smallest(
    plan: BundlePlan,
    source: Source,
    reference: Reference,
    dataset: Dataset | None = None,
    progress: Progress = silent,
) -> Smallest:
    """Write the smallest bundle that passes to the plan's place.

    What is computed is kept in a folder `.NAME.search` beside it until the bundle is there: the same command goes on
    where it was stopped, and decides the same.

    Args:
        plan: with a search instead of precisions; accuracy's gate is its `max_drop`.
        source: its model is folded in place.
        reference: what the checkpoint answered before.
        dataset: what accuracy is compared on, when both towers are exported.

    Raises:
        GateFailed: nothing passes, or the budget ended before anything did; nothing was written.
        DependencyMissing, ExportError: the converter is not installed or failed.
    """
    limits = plan.search
    assert limits is not None
    started = time.monotonic()
    plan = replace(plan, gates=replace(plan.gates, task=limits.max_drop))
    trials, task = _trials(plan, source, reference, dataset, progress)
    layers = {tower: _layers(trials, tower) for tower in plan.towers} if plan.target.mixes else {}
    choices = {
        tower: tower_choices(plan.target, tower, make_tower(source.model, tower), layers.get(tower, ()))
        for tower in plan.towers
    }
    tried: list[Trial] = []

    def log() -> SearchLog:
        return SearchLog(
            target=plan.target.label,
            max_drop=limits.max_drop,
            max_size=limits.max_size,
            dataset=trials.dataset.name if trials.dataset is not None else None,
            trials=tuple(tried),
            layers=layers,
        )

    larger: Candidate | None = None
    for candidate in in_order(choices):
        if limits.max_size is not None and candidate.predicted > 1e6 * limits.max_size:
            larger = candidate
            break
        if limits.budget is not None and time.monotonic() - started > 60 * limits.budget:
            raise NothingPasses(
                f"{plan.path.name}: nothing passed within {limits.budget:g} minutes ({len(tried)} tried); the same "
                "command goes on from here, with a larger `budget`",
                plan.path,
                log(),
            )
        tried.append(_try(candidate, trials, layers, limits))
        if tried[-1].outcome == "failed":
            continue
        try:
            found = _write(trials, candidate, task, log())
        except (GateFailed, Undecided) as error:
            outcome = "failed" if isinstance(error, GateFailed) else "undecided"
            tried[-1] = tried[-1].model_copy(update={"outcome": outcome, "reason": str(error)})
            continue
        shutil.rmtree(trials.folder, ignore_errors=True)
        return found
    raise NothingPasses(f"{plan.path.name}: {_what_failed(tried, limits, larger)}", plan.path, log())


def _what_failed(tried: Sequence[Trial], limits: Limits, larger: Candidate | None) -> str:
    """What a search came to that wrote nothing, and what to do next."""
    within = "" if limits.max_size is None else f" of at most {limits.max_size:g} MB"
    after = "" if larger is None else f"; the next candidate needs `max_size` {larger.predicted / 1e6:.2f}"
    if not tried:
        return f"there is no candidate{within}{after}"
    reasons = "; ".join(dict.fromkeys(trial.reason for trial in tried[-3:] if trial.reason))
    reached = tried[-1].bytes or tried[-1].predicted_bytes
    return (
        f"none of {len(tried)} candidates{within} passes; the largest, {reached / 1e6:.2f} MB, failed with: {reasons}"
        f"{after}; allow a larger `max_drop`, or train the towers for their precision with `recover`"
    )


def _trials(
    plan: BundlePlan, source: Source, reference: Reference, dataset: Dataset | None, progress: Progress
) -> tuple[Trials, Looks | None]:
    """Where candidates are tried, and what the one chosen is confirmed on; the checkpoint's own accuracy is measured
    before it is folded."""
    settings = f"{source.provenance.sha256} {sorted(plan.target.options.recorded().items())} {plan.calibration}"
    # Another checkpoint or other options never find what a search has kept.
    folder = plan.path.parent / f".{plan.path.name}.search-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    own = chosen_on = confirmed_on = None
    if dataset is not None and plan.towers == TOWERS:
        chosen_on, others = dataset.divided()
        how, told = Measuring(cache=folder / "embeddings"), about("checkpoint", progress)
        own = measure(model_embedder(source.model), chosen_on, how=how, progress=told)
        confirmed_on = checkpoint_looks(source.model, others, progress)
    return Trials(plan, source.folded(), reference, folder, chosen_on, own, progress), confirmed_on


def _try(candidate: Candidate, trials: Trials, layers: dict[TowerName, tuple[Layer, ...]], limits: Limits) -> Trial:
    named = {
        tower: tuple(layer.name for layer in layers.get(tower, ()) if layer.name in chosen)
        for tower, chosen in candidate.four_bit.items()
    }
    trial = Trial(
        precisions=candidate.precisions,
        predicted_bytes=candidate.predicted,
        four_bit={tower: names for tower, names in named.items() if names},
        outcome="failed",
    )
    size = 0
    for choice in candidate.choices:
        tried = trials.tower(choice)
        if tried.failed is not None:
            return trial.model_copy(update={"reason": tried.failed})
        size += tried.bytes
    limit = limits.max_size
    if limit is not None and size > 1e6 * limit:
        return trial.model_copy(update={"bytes": size, "reason": f"{size / 1e6:.2f} MB, wanted at most {limit:g}"})
    drops = trials.drops(candidate)
    over = [
        f"{name} drops by {drop:.2f} points" for name, drop in drops.items() if not trials.plan.gates.allow_drop(drop)
    ]
    return trial.model_copy(
        update={
            "bytes": size,
            "drops": {name: round(drop, 4) for name, drop in drops.items()},
            "outcome": "failed" if over else "passed",
            "reason": "; ".join(over) or None,
        }
    )


def _layers(trials: Trials, tower: TowerName) -> tuple[Layer, ...]:
    """The sensitivity of a tower's layers, measured once a search."""
    file = trials.folder / f"{tower}-layers.json"
    adapter = TypeAdapter(tuple[Layer, ...])
    if file.exists():
        return adapter.validate_json(file.read_bytes())
    trials.progress(f"{tower} tower: sensitivity of its layers")
    inputs = calibration_inputs(trials.source.variant, tower, trials.plan.calibration)
    module = make_tower(trials.source.model, tower)
    names = four_bit_layers(trials.plan.target, tower, module)
    layers = tuple(measure_layers(module, inputs, names))
    trials.folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, adapter.dump_json(layers))
    return layers


def _write(trials: Trials, candidate: Candidate, task: Looks | None, log: SearchLog) -> Smallest:
    """Write the bundle as any other, verified, and let it take its place under the name that was asked for.

    Raises:
        GateFailed: it fails a check.
        Undecided: the images that it is confirmed on are too few to tell whether its accuracy holds its gate.
    """
    plan = trials.plan
    found = replace(
        plan,
        path=trials.folder / "bundle" / plan.path.name,
        target=plan.target.settled(candidate.precisions),
        precisions=candidate.precisions,
        four_bit=candidate.four_bit,
        search=None,
        force=True,
    )
    written = write_bundle(found, trials.source, Evidence(trials.reference, task), trials.progress)
    assert written.report is not None
    if written.report.undecided:
        raise Undecided("; ".join(check.describe() for check in written.report.undecided))
    with staged_bundle(plan.path, plan.force) as staging:
        shutil.copytree(written.bundle.path, staging, dirs_exist_ok=True)
        (staging / SEARCH_LOG).write_text(log.model_dump_json(indent=2) + "\n", encoding="utf-8")
    report = written.report.model_copy(update={"bundle": plan.path.name})
    return Smallest(Bundle(plan.path, written.bundle.manifest), report, log)
