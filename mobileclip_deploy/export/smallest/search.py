"""Finds the smallest bundle that passes every gate: candidates are tried in the order of their predicted bytes.

Bytes and noise are predicted first, without a conversion; only Pareto-optimal candidates are tried. A tower that fails
its own gate is tried once, and all candidates with it are skipped. Accuracy selects on a third of the images and is
confirmed on the others, once for each candidate. The first confirmed candidate is written and verified in full, as in
every export. Nothing corrects for the number of candidates tested on the same images; the report states it. If the
images are too few to decide, the target's default precision is written, undecided, before anything larger.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from torch import nn

from mobileclip_deploy.artifacts.bundle import Bundle, staged_bundle
from mobileclip_deploy.artifacts.bundle.opening import SEARCH_LOG
from mobileclip_deploy.artifacts.towers.calibration import calibration_inputs
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.base.files import write_whole
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import GateFailed
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.evaluate import Measuring
from mobileclip_deploy.evaluation.looks import Looks, checkpoint_looks
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.request import Limits
from mobileclip_deploy.export.smallest.candidates import (
    Candidate,
    TowerChoice,
    four_bit_layers,
    frontier,
    in_order,
    tower_choices,
)
from mobileclip_deploy.export.smallest.log import Point, SearchLog, Trial
from mobileclip_deploy.export.smallest.prediction import Layer, Prediction, Predictor, measure_layers
from mobileclip_deploy.export.smallest.trials import Trials
from mobileclip_deploy.export.steps import ExportGateFailed, NotWritten, Written, write_bundle
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.precision import parse_precisions, precision_of
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.verify.subject import Evidence

NOT_CONFIRMED = "passes its gates, but is not confirmed: the time limit was reached"


@dataclass(frozen=True)
class Smallest(Written):
    """The bundle, the report of its verification, and the search's log, which is also in the bundle."""

    log: SearchLog

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields of any written bundle, and the search, for JSON."""
        return super().as_dict() | {"search": self.log.model_dump(mode="json")}


@dataclass(frozen=True)
class NotFound(NotWritten):
    """A search that ended without a bundle, with its log."""

    log: SearchLog

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields of any failed bundle, and the search, for JSON."""
        return super().as_dict() | {"search": self.log.model_dump(mode="json")}


class NothingPasses(ExportGateFailed):
    """Error of a search that ended without a bundle."""

    kind = ExportGateFailed.kind

    def __init__(self, text: str, path: Path, log: SearchLog) -> None:
        super().__init__(text, NotFound(path, self, log))


def find_smallest(
    plan: BundlePlan,
    source: Source,
    reference: Reference,
    dataset: Dataset | None = None,
    progress: Progress = silent,
) -> Smallest:
    """Writes the smallest bundle that passes to the plan's path. The default precision is written before anything
    larger if the images can neither refuse nor confirm it.

    Results are cached in a folder `.NAME.search` next to the path until the bundle is written. The same command resumes
    a stopped search, and decides the same.

    Args:
        plan: with a search instead of precisions; accuracy's gate is its `max_drop`.
        source: its model is folded in place.
        reference: the checkpoint's embeddings before folding.
        dataset: on which accuracy is compared, if both towers are exported.

    Raises:
        GateFailed: nothing passes, or the budget ended before anything did; nothing was written.
        DependencyMissing, ExportError: the converter is not installed or failed.
    """
    limits = plan.search
    assert limits is not None
    ends = None if limits.budget is None else time.monotonic() + 60 * limits.budget
    plan = replace(plan, request=replace(plan.request, gates=replace(plan.request.gates, task=limits.max_drop)))
    trials, task = _trials(plan, source, reference, dataset, progress)
    search = _Search(trials, limits, ends, task)
    smallest = search.run()
    if smallest is None:
        raise search.refused(search.what_failed())
    shutil.rmtree(trials.folder, ignore_errors=True)
    return smallest


@dataclass
class _Search:
    """A search in progress. `ends`: end of the budget, by the monotonic clock; `task`: measurements to confirm accuracy
    on."""

    trials: Trials
    limits: Limits
    ends: float | None
    task: Looks | None
    layers: dict[TowerName, tuple[Layer, ...]] = field(default_factory=dict)
    choices: dict[TowerName, list[TowerChoice]] = field(default_factory=dict)
    ruled_out: dict[TowerName, dict[str, str]] = field(default_factory=dict)
    candidates: int = 0
    tried: dict[Candidate, Trial] = field(default_factory=dict)
    confirmed: int = 0

    def run(self) -> Smallest | None:
        """Returns the smallest bundle that passes. None if there is none.

        Raises:
            NothingPasses: nothing passed within the budget.
        """
        for tower in self.trials.plan.towers:
            if tower not in self.choices:
                self._prepare(tower)
        counts = [len(choices) + len(self.ruled_out.get(tower, {})) for tower, choices in self.choices.items()]
        self.candidates = math.prod(counts)
        while (candidate := self._next()) is not None:
            if not self._holds(candidate) or not self._may_be_written(candidate):
                continue
            if (smallest := self._write(candidate)) is not None:
                return smallest
        return None

    def _next(self) -> Candidate | None:
        """Returns the smallest candidate that was not tried; the default precision comes before all larger ones. None
        if all were tried."""
        left = [entry for entry in self._affordable() if entry not in self.tried]
        default = self._default()
        if default is None or default in self.tried or (left and left[0].predicted < default.predicted):
            return left[0] if left else None
        return default

    def _default(self) -> Candidate | None:
        """Returns the target's default precision. None if it is too large, or the gate of a tower refuses it."""
        plan = self.trials.plan
        named = parse_precisions(plan.target.capabilities.storing.default_precision, plan.towers)
        matches = [
            next((entry for entry in self.choices[tower] if entry.precision == named[tower]), None) for tower in named
        ]
        choices = tuple(entry for entry in matches if entry is not None)
        candidate = Candidate(choices)
        return candidate if len(choices) == len(matches) and self._is_affordable(candidate) else None

    def _affordable(self) -> list[Candidate]:
        return [candidate for candidate in self._frontier() if self._is_affordable(candidate)]

    def _is_affordable(self, candidate: Candidate) -> bool:
        return self.limits.max_size is None or candidate.predicted <= 1e6 * self.limits.max_size

    def _holds(self, candidate: Candidate) -> bool:
        """Tries a candidate: its gates, and its accuracy on the images for selection."""
        self._go_on()
        self.tried[candidate] = self._try(candidate)
        return self.tried[candidate].outcome != "failed"

    def _may_be_written(self, candidate: Candidate) -> bool:
        """Confirms a candidate's accuracy on the images that it was not selected on.

        The default precision may be written undecided.
        """
        if self.task is None:
            return True
        bound = self.limits.max_drop
        self._go_on()
        paired = self.trials.losses(candidate, self.task, bound)
        self.confirmed += 1
        outcome = paired.outcome(bound)
        if outcome != "passed":
            more = paired.more_for(bound) if outcome == "undecided" else None
            self._say(candidate, outcome=outcome, reason=f"confirming: {paired.describe(bound)}", more=more)
        return outcome == "passed" or (outcome == "undecided" and candidate == self._default())

    def log(self) -> SearchLog:
        """Returns the log of all trials so far."""
        return SearchLog(
            target=self.trials.plan.target.label,
            max_drop=self.limits.max_drop,
            max_size=self.limits.max_size,
            dataset=self.trials.dataset.name if self.trials.dataset is not None else None,
            trials=tuple(self.tried.values()),
            layers=self.layers,
            candidates=self.candidates,
            ruled_out=self.ruled_out,
            frontier=tuple(
                Point(
                    precisions=candidate.precisions,
                    predicted_bytes=candidate.predicted,
                    snr_db=decibels(candidate.noise[0]),
                    outcome=self.tried[candidate].outcome if candidate in self.tried else None,
                )
                for candidate in self._frontier()
            ),
        )

    def _frontier(self) -> list[Candidate]:
        """Returns the Pareto-optimal candidates without the towers that failed."""
        return frontier(in_order(self.choices)) if self.choices else []

    def _go_on(self) -> None:
        if self.ends is not None and time.monotonic() > self.ends:
            raise self.refused(
                f"nothing passed within {self.limits.budget:g} minutes ({len(self.tried)} tried); repeat the command "
                "with a larger `budget`, and it resumes"
            )

    def refused(self, why: str) -> NothingPasses:
        """Makes the error of a search that wrote nothing."""
        path = self.trials.plan.path
        return NothingPasses(f"{path.name}: {why}", path, self.log())

    def _prepare(self, tower: TowerName) -> None:
        """Collects every choice of a tower with its prediction."""
        trials, target = self.trials, self.trials.plan.target
        module = make_tower(trials.source.model, tower)
        if target.capabilities.storing.mixes:
            self._go_on()
            self.layers[tower] = _layers(trials, tower, module)
        choices = tower_choices(target, tower, module, self.layers.get(tower, ()))
        predicted = _predictions(trials, tower, module, choices, self._go_on)
        bound = trials.plan.request.gates.shipped
        self.choices[tower] = []
        for choice in choices:
            prediction = predicted[choice.label]
            reason = prediction.fails(bound(choice.precision, trials.reference.floor[tower]))
            if reason is not None:
                self.ruled_out.setdefault(tower, {})[choice.label] = reason
                continue
            self.choices[tower].append(replace(choice, noise=prediction.noise))

    def _try(self, candidate: Candidate) -> Trial:
        """Checks both towers against their gates, and their accuracy on the images for selection."""
        trials, limit = self.trials, self.limits.max_size
        four_bit_names = {
            tower: tuple(layer.name for layer in self.layers.get(tower, ()) if layer.name in chosen)
            for tower, chosen in candidate.four_bit.items()
        }
        trial = Trial(
            precisions=candidate.precisions,
            predicted_bytes=candidate.predicted,
            predicted_snr_db={choice.tower: decibels(choice.noise) for choice in candidate.choices},
            four_bit={tower: names for tower, names in four_bit_names.items() if names},
            outcome="failed",
        )
        size = 0
        for choice in candidate.choices:
            tried = trials.tower(choice)
            if tried.failed is not None:
                self.choices[choice.tower].remove(choice)
                return trial.model_copy(update={"reason": tried.failed})
            size += tried.bytes
        if limit is not None and size > 1e6 * limit:
            return trial.model_copy(update={"bytes": size, "reason": f"{size / 1e6:.2f} MB, at most {limit:g} allowed"})
        drops, gates = trials.drops(candidate), trials.plan.request.gates
        over = [f"{name} drops by {drop:.2f} points" for name, drop in drops.items() if not gates.allow_drop(drop)]
        return trial.model_copy(
            update={
                "bytes": size,
                "drops": {name: round(drop, 4) for name, drop in drops.items()},
                "outcome": "failed" if over else "undecided",
                "reason": "; ".join(over) or NOT_CONFIRMED,
            }
        )

    def _write(self, candidate: Candidate) -> Smallest | None:
        """Writes and verifies the bundle as any other, and publishes it under the requested name. None if it does not
        pass, which its trial records."""
        trials, plan = self.trials, self.trials.plan
        final_plan = replace(
            plan,
            path=trials.folder / "bundle" / plan.path.name,
            target=plan.target.settled(candidate.precisions),
            precisions=candidate.precisions,
            four_bit=candidate.four_bit,
            request=replace(plan.request, writing=replace(plan.request.writing, force=True)),
            search=None,
        )
        evidence = Evidence(trials.reference, self.task)
        try:
            written = write_bundle(final_plan, trials.source, evidence, trials.progress)
        except GateFailed as error:
            self._say(candidate, outcome="failed", reason=str(error))
            return None
        assert written.report is not None
        undecided = "; ".join(check.describe() for check in written.report.undecided)
        if undecided:
            self._say(candidate, outcome="undecided", reason=undecided)
            if candidate != self._default():
                return None
        else:
            self._say(candidate, outcome="passed", reason=None)
        self.tried[candidate] = self.tried.pop(candidate)  # the last one is the bundle
        log = self.log().model_copy(update={"fallback": bool(undecided)})
        with staged_bundle(plan.path, plan.request.writing.force) as staging:
            shutil.copytree(written.bundle.path, staging, dirs_exist_ok=True)
            (staging / SEARCH_LOG).write_text(log.model_dump_json(indent=2) + "\n", encoding="utf-8")
        notes = (*written.report.notes, *_undecided(log), *_told_of_luck(self.confirmed))
        report = written.report.model_copy(update={"bundle": plan.path.name, "notes": notes})
        return Smallest(Bundle(plan.path, written.bundle.manifest), report, log)

    def _say(self, candidate: Candidate, **what: object) -> None:
        self.tried[candidate] = self.tried[candidate].model_copy(update=what)

    def what_failed(self) -> str:
        """Describes why the search wrote nothing, and what to do next."""
        tried, limits = [*self.tried.values()], self.limits
        beyond = self._frontier()[len(self._affordable()) :]
        within = "" if limits.max_size is None else f" of at most {limits.max_size:g} MB"
        after = f"; the next candidate needs `max_size` {beyond[0].predicted / 1e6:.2f}" if beyond else ""
        if not tried:
            return f"there is no candidate{within}{after}"
        reasons = "; ".join(dict.fromkeys(trial.reason for trial in tried[-3:] if trial.reason))
        reached = tried[-1].bytes or tried[-1].predicted_bytes
        return (
            f"{len(tried)} candidates{within} were tried, and all failed; the largest, {reached / 1e6:.2f} MB, failed "
            f"with: {reasons}{after}; allow a larger `max_drop`, or train the towers for their precision with `recover`"
        )


def _undecided(log: SearchLog) -> tuple[str, ...]:
    """Returns a note if smaller candidates, or the written one, might pass, with the number of pictures that would
    decide. Empty if the pictures decided."""
    *before, written = log.trials
    undecided = [trial for trial in before if trial.outcome == "undecided" and trial.bytes is not None]
    if log.fallback:
        text = f"no smaller candidate passed; the default precision is written, undecided: {_named(written)}"
        return (f"{text}{_more([*undecided, written])}",)
    if not undecided:
        return ()
    text = f"{log.dataset} has too few pictures to tell whether smaller candidates pass ({len(undecided)} undecided)"
    return (f"{text}{_more(undecided)}; written are {(written.bytes or 0) / 1e6:.1f} MB",)


def _told_of_luck(confirmed: int) -> tuple[str, ...]:
    """Returns a note that one of several candidates passes by luck more easily than one alone."""
    if confirmed < 2:
        return ()
    return (f"accuracy of {confirmed} candidates was confirmed on the same images: one of them may pass by luck",)


def _more(undecided: Sequence[Trial]) -> str:
    """Returns the smallest number of further pictures that would decide one of these trials, in words."""
    counted = [(trial.more, trial) for trial in undecided if trial.more is not None]
    if not counted:
        return ""
    _, trial = min(counted, key=lambda pair: (pair[0], pair[1].bytes))
    return f"; about {trial.pictures:,} more pictures would decide {_named(trial)}"


def _named(trial: Trial) -> str:
    named = ", ".join(f"{tower} {precision}" for tower, precision in trial.precisions.items())
    return f"{named} ({(trial.bytes or 0) / 1e6:.1f} MB)"


def decibels(noise: float) -> float | None:
    """Converts a share of energy to a signal-to-noise ratio. None for no noise at all."""
    return -10 * math.log10(noise) if noise > 0 else None


def _trials(
    plan: BundlePlan, source: Source, reference: Reference, dataset: Dataset | None, progress: Progress
) -> tuple[Trials, Looks | None]:
    """Makes the folder of trials, and measures the checkpoint's own accuracy, before it is folded, to select and
    confirm on."""
    options = sorted(plan.target.options.recorded().items())
    settings = f"{source.provenance.content} {options} {plan.request.calibration}"
    # The hash keeps the caches of other checkpoints and options apart.
    folder = plan.path.parent / f".{plan.path.name}.search-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    baseline = chosen_on = confirmed_on = None
    if dataset is not None and plan.towers == TOWERS:
        chosen_on, others = dataset.divided()
        baseline = checkpoint_looks(source.model, chosen_on, progress, Measuring(cache=folder / "embeddings"))
        confirmed_on = checkpoint_looks(source.model, others, progress)
    return Trials(plan, source.folded(), reference, folder, chosen_on, baseline, progress), confirmed_on


def _layers(trials: Trials, tower: TowerName, module: nn.Module) -> tuple[Layer, ...]:
    """Returns the sensitivity of a tower's layers, measured once per search."""
    file = trials.folder / f"{tower}-layers.json"
    adapter = TypeAdapter(tuple[Layer, ...])
    if file.exists():
        return adapter.validate_json(file.read_bytes())
    trials.progress(f"{tower} tower: sensitivity of its layers")
    inputs = calibration_inputs(trials.source.variant, tower, trials.plan.request.calibration)
    layers = tuple(measure_layers(module, inputs, four_bit_layers(trials.plan.target, tower, module)))
    trials.folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, adapter.dump_json(layers))
    return layers


def _predictions(
    trials: Trials, tower: TowerName, module: nn.Module, choices: Sequence[TowerChoice], go_on: Callable[[], None]
) -> dict[str, Prediction]:
    """Returns the predicted effect of each choice of a tower, by its label, computed once per search."""
    file = trials.folder / f"{tower}-predictions.json"
    adapter = TypeAdapter(dict[str, Prediction])
    predictions = adapter.validate_json(file.read_bytes()) if file.exists() else {}
    predictor = Predictor(module, trials.reference.inputs.of(tower))
    trials.folder.mkdir(parents=True, exist_ok=True)
    # Sorted by the table's precision: the table is the largest weight, and is not rounded again.
    for choice in sorted(choices, key=lambda one: (precision_of(one.precision).table or one.precision, one.label)):
        if choice.label not in predictions:
            go_on()
            trials.progress(f"{tower} tower at {choice.precision}: predicting")
            storage = storage_of(trials.plan.target, tower, module, choice.precision, choice.four_bit)
            predictions[choice.label] = predictor.predict(storage)
            write_whole(file, adapter.dump_json(predictions))
    return predictions
