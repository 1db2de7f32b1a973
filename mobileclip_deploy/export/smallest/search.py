"""Finds the smallest bundle that passes every gate: candidates are tried in the order of their predicted bytes.

A tower that fails its own gate is tried once, and all candidates with it are skipped. Accuracy is judged by the gate of
every export, an interval, on all images. The first candidate that passes is written and verified in full, as in every
export. Nothing corrects for the number of candidates tested on the same images; the report states it. If the images are
too few to decide, the target's default precision is written, undecided, before anything larger.
"""

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
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
from mobileclip_deploy.export.plan import BundlePlan
from mobileclip_deploy.export.request import Limits
from mobileclip_deploy.export.smallest.candidates import (
    Candidate,
    TowerChoice,
    four_bit_layers,
    in_order,
    tower_choices,
)
from mobileclip_deploy.export.smallest.log import SearchLog, Trial
from mobileclip_deploy.export.smallest.sensitivity import Layer, measure_layers
from mobileclip_deploy.export.smallest.trials import Trials
from mobileclip_deploy.export.steps import ExportGateFailed, NotWritten, Written, write_bundle
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.precision import parse_precisions
from mobileclip_deploy.network.model.variants import TowerName
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


def find_smallest(plan: BundlePlan, source: Source, evidence: Evidence, progress: Progress = silent) -> Smallest:
    """Writes the smallest bundle that passes to the plan's path. The default precision is written before anything
    larger if the images can neither refuse nor confirm it.

    Results are cached in a folder `.NAME.search` next to the path until the bundle is written. The same command resumes
    a stopped search, and decides the same.

    Args:
        plan: with a search instead of precisions; accuracy's gate is its `max_drop`.
        source: its model is folded in place.
        evidence: the checkpoint's embeddings before folding, and its accuracy if it is compared.

    Raises:
        GateFailed: nothing passes, or the budget ended before anything did; nothing was written.
        DependencyMissing, ExportError: the converter is not installed or failed.
    """
    limits = plan.search
    assert limits is not None
    ends = None if limits.budget is None else time.monotonic() + 60 * limits.budget
    plan = replace(plan, request=replace(plan.request, gates=replace(plan.request.gates, task=limits.max_drop)))
    options = sorted(plan.target.options.recorded().items())
    settings = f"{source.provenance.content} {options} {plan.request.calibration}"
    # The hash keeps the caches of other checkpoints and options apart.
    folder = plan.path.parent / f".{plan.path.name}.search-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"
    trials = Trials(plan, source.folded(), evidence, folder, progress)
    search = _Search(trials, limits, ends)
    smallest = search.run()
    if smallest is None:
        raise search.refused(search.what_failed())
    shutil.rmtree(trials.folder, ignore_errors=True)
    return smallest


@dataclass
class _Search:
    """A search in progress. `ends`: end of the budget, by the monotonic clock. `failed`: towers that failed their
    gates."""

    trials: Trials
    limits: Limits
    ends: float | None
    layers: dict[TowerName, tuple[Layer, ...]] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    failed: set[TowerChoice] = field(default_factory=set)
    tried: dict[Candidate, Trial] = field(default_factory=dict)
    confirmed: int = 0

    def run(self) -> Smallest | None:
        """Returns the smallest bundle that passes. None if there is none.

        Raises:
            NothingPasses: nothing passed within the budget.
        """
        plan = self.trials.plan
        self.candidates = in_order({tower: self._choices(tower) for tower in plan.towers}, self._default)
        for candidate in self.candidates:
            if self._is_affordable(candidate) and self._may_pass(candidate):
                self._go_on()
                if self._holds(candidate) and (smallest := self._write(candidate)) is not None:
                    return smallest
        return None

    def _may_pass(self, candidate: Candidate) -> bool:
        return self.failed.isdisjoint(candidate.choices)

    @property
    def _default(self) -> Mapping[TowerName, str]:
        """The target's default precision, which may be written undecided."""
        plan = self.trials.plan
        return parse_precisions(plan.target.capabilities.storing.default_precision, plan.towers)

    def _is_affordable(self, candidate: Candidate) -> bool:
        return self.limits.max_size is None or candidate.predicted <= 1e6 * self.limits.max_size

    def _choices(self, tower: TowerName) -> tuple[TowerChoice, ...]:
        trials, target = self.trials, self.trials.plan.target
        module = make_tower(trials.source.model, tower)
        if target.capabilities.storing.mixes:
            self._go_on()
            self.layers[tower] = _layers(trials, tower, module)
        return tower_choices(target, tower, module, self.layers.get(tower, ()))

    def _holds(self, candidate: Candidate) -> bool:
        """Tries a candidate: the gates of its towers, its bytes, and its accuracy."""
        trials, limit, bound = self.trials, self.limits.max_size, self.limits.max_drop
        named = {
            tower: tuple(layer.name for layer in self.layers.get(tower, ()) if layer.name in chosen)
            for tower, chosen in candidate.four_bit.items()
        }
        self.tried[candidate] = Trial(
            precisions=candidate.precisions,
            predicted_bytes=candidate.predicted,
            four_bit={tower: names for tower, names in named.items() if names},
            outcome="failed",
        )
        size = 0
        for choice in candidate.choices:
            tried = trials.tower(choice)
            if tried.failed is not None:
                self.failed.add(choice)
                self._record(candidate, reason=tried.failed)
                return False
            size += tried.bytes
        if limit is not None and size > 1e6 * limit:
            self._record(candidate, bytes=size, reason=f"{size / 1e6:.2f} MB, at most {limit:g} allowed")
            return False
        self._record(candidate, bytes=size, outcome="undecided", reason=NOT_CONFIRMED)
        if trials.evidence.task is None:
            return True
        self._go_on()
        is_default = candidate.precisions == self._default
        paired = trials.losses(candidate, trials.evidence.task, bound, is_default)
        self.confirmed += 1
        outcome = paired.outcome(bound)
        self._record(
            candidate,
            drops={name: round(loss.points, 4) for name, loss in paired.losses.items()},
            outcome="failed" if outcome == "failed" else "undecided",
            reason=NOT_CONFIRMED if outcome == "passed" else paired.describe(bound),
            more=paired.more_for(bound) if outcome == "undecided" else None,
        )
        return outcome == "passed" or (outcome == "undecided" and is_default)

    def log(self) -> SearchLog:
        """Returns the log of all trials so far."""
        return SearchLog(
            target=self.trials.plan.target.label,
            max_drop=self.limits.max_drop,
            max_size=self.limits.max_size,
            dataset=None if self.trials.evidence.task is None else self.trials.evidence.task.dataset.name,
            trials=tuple(self.tried.values()),
            layers=self.layers,
            candidates=len(self.candidates),
        )

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
        try:
            written = write_bundle(final_plan, trials.source, trials.evidence, trials.progress)
        except GateFailed as error:
            self._record(candidate, outcome="failed", reason=str(error))
            return None
        assert written.report is not None
        undecided = "; ".join(check.describe() for check in written.report.undecided)
        if undecided:
            self._record(candidate, outcome="undecided", reason=undecided)
            if candidate.precisions != self._default:
                return None
        else:
            self._record(candidate, outcome="passed", reason=None)
        self.tried[candidate] = self.tried.pop(candidate)  # the last one is the bundle
        log = self.log().model_copy(update={"fallback": bool(undecided)})
        with staged_bundle(plan.path, plan.request.writing.force) as staging:
            shutil.copytree(written.bundle.path, staging, dirs_exist_ok=True)
            (staging / SEARCH_LOG).write_text(log.model_dump_json(indent=2) + "\n", encoding="utf-8")
        notes = [*written.report.notes, *_undecided(log)]
        if self.confirmed > 1:  # one of several passes by luck more easily than one alone
            text = f"accuracy of {self.confirmed} candidates was confirmed on the same images"
            notes.append(f"{text}: one of them may pass by luck")
        report = written.report.model_copy(update={"bundle": plan.path.name, "notes": tuple(notes)})
        return Smallest(Bundle(plan.path, written.bundle.manifest), report, log)

    def _record(self, candidate: Candidate, **what: object) -> None:
        self.tried[candidate] = self.tried[candidate].model_copy(update=what)

    def what_failed(self) -> str:
        """Describes why the search wrote nothing, and what to do next."""
        tried, limits = [*self.tried.values()], self.limits
        beyond = [one for one in self.candidates if self._may_pass(one) and not self._is_affordable(one)]
        within = "" if limits.max_size is None else f" of at most {limits.max_size:g} MB"
        after = f"; the next candidate needs `max_size` {beyond[0].predicted / 1e6:.2f}" if beyond else ""
        if not tried:
            return f"there is no candidate{within}{after}"
        reasons = "; ".join(dict.fromkeys(trial.reason for trial in tried[-3:] if trial.reason))
        reached = tried[-1].bytes or tried[-1].predicted_bytes
        return (
            f"{len(tried)} candidates{within} were tried, and all failed; the largest, {reached / 1e6:.2f} MB, failed "
            f"with: {reasons}{after}; allow a larger `max_drop`"
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


def _more(undecided: Sequence[Trial]) -> str:
    """Returns the smallest number of further pictures that would decide one of these trials, in words."""
    counted = [(trial.more, trial) for trial in undecided if trial.more is not None]
    if not counted:
        return ""
    _, trial = min(counted, key=lambda pair: (pair[0], pair[1].bytes))
    return f"; about {trial.more:,} more pictures would decide {_named(trial)}"


def _named(trial: Trial) -> str:
    named = ", ".join(f"{tower} {precision}" for tower, precision in trial.precisions.items())
    return f"{named} ({(trial.bytes or 0) / 1e6:.1f} MB)"


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
