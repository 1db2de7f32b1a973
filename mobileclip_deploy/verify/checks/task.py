"""Checks of the accuracy that artifacts lose against their checkpoint, with a test against chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mobileclip_deploy.base.progress import about
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.evaluation.looks import Looks, Paired, paired_looks
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check, Gates
from mobileclip_deploy.parity.report import Lost
from mobileclip_deploy.pictures.embedder import TorchRunner, bundle_embedder
from mobileclip_deploy.targets import Runner, Target
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.verify.checks.graph import tower_as_stored
from mobileclip_deploy.verify.instruments.matching import Matched
from mobileclip_deploy.verify.subject import Subject

# The figures whose loss is gated, in points (Gates.task).
TASK_FIGURES = ("top1", "image_to_text_recall@1")


def check_task(subject: Subject) -> list[Check]:
    """Checks the accuracy loss against the checkpoint, in points; a gain never fails.

    The gate bounds the loss on all images of this kind, by the 95% interval of the loss. The check passes if the upper
    end is within the gate, and fails if the lower end is beyond it. Between the two it is undecided. The plain images
    are run first. The augmented views follow only if the plain images do not decide.
    """
    task, gates = subject.evidence.task, subject.gates
    if not subject.thorough and subject.complete:
        return [Check.not_wanted("task", "both")]
    if task is None or not subject.complete:
        return []
    try:
        embedder = bundle_embedder(subject.bundle, load=partial(runner_for_all, subject))
    except NotRun as error:
        return [Check.not_run("task", "both", str(error))]
    runs = Looks(embedder, task.dataset, progress=about(subject.name, subject.progress))
    exact = all(precision_of(entry.precision).bits == 32 for entry in subject.bundle.manifest.towers.values())
    return [judged(task, runs, paired_looks(task, runs, TASK_FIGURES, gates.task, exact), gates)]


def runner_for_all(subject: Subject, tower: TowerName) -> Runner:
    """Returns the runner for all images: see `stand_in`."""

    def stored() -> Runner | None:
        matches = subject.matched.get(tower)
        return None if matches is None else stored_runner(subject.module(tower), matches, subject.grids(tower))

    return stand_in(subject.target, subject.artifact(tower), stored) or subject.runner(tower)


def stand_in(target: Target, artifact: Artifact, stored: Callable[[], Runner | None]) -> Runner | None:
    """Returns a fast replacement for a runtime that would take hours for all images. Prefers the artifact's own
    replacement, else torch with the weights from the file. None if the runtime is fast, or the weights cannot be read.

    The checks `graph` and `shipped` prove that the artifact computes the same, on the inputs that its runtime runs.

    Args:
        stored: makes the `stored_runner` of the artifact; gives None if its weights cannot be read.
    """
    if target.capabilities.places.slow_runtime is None:
        return None
    return artifact.stand_in() or stored()


def stored_runner(module: nn.Module, found: Sequence[Matched], grids: Storage) -> Runner:
    """Returns a runner for torch with the weights from a file.

    Args:
        module: the folded tower that was converted.
        found: which weight of the file belongs to which layer.
        grids: storage of its tensors.
    """
    stored = tower_as_stored(module, found, grids)

    @torch.no_grad()
    def compute(inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        answers: npt.NDArray[np.float32] = stored(torch.from_numpy(np.ascontiguousarray(inputs))).numpy()
        return answers

    return TorchRunner(f"torch {torch.__version__} with the weights that stand in the file", compute)


def judged(own: Looks, found: Looks, paired: Paired, gates: Gates) -> Check:
    """Returns the check of accuracy. Its figures are those of the plain images, its losses those of all runs."""
    before, after = own.plain.result.figures, found.plain.result
    figures = {name: after.figures[name].value for name in paired.losses}
    return Check(
        step="task",
        tower="both",
        status=paired.outcome(gates.task),
        engine=after.engine,
        gate=f"drop <= {gates.task:g} points",
        figures=figures | {f"{name}_drop": before[name].value - value for name, value in figures.items()},
        losses={name: Lost.model_validate(loss, from_attributes=True) for name, loss in paired.losses.items()},
        divergence=paired.divergence,
        detail=paired.describe(gates.task),
    )


def check_sampled(subject: Subject) -> list[Check]:
    """Checks accuracy as `check_task` does, on a sample of the images. A few images more or less are chance in a small
    sample. So the check fails only if the whole 95% interval of the paired loss is beyond the gate."""
    sampled, gates = subject.evidence.sampled, subject.gates
    if sampled is None:
        return []
    try:
        embedder = bundle_embedder(subject.bundle, load=partial(runner_for_all, subject))
    except NotRun as error:
        return [Check.not_run("sampled", "both", str(error))]
    measured = measure(embedder, sampled.dataset, progress=about(subject.name, subject.progress))
    names = [name for name in TASK_FIGURES if name in measured.hits]
    lost = {name: paired_difference(sampled.checkpoint.hits[name], measured.hits[name]) for name in names}
    within = all(gates.allow_drop(loss.low) for loss in lost.values())
    figures = {name: measured.result.figures[name].value for name in names}
    return [
        Check(
            step="sampled",
            tower="both",
            status="passed" if within else "failed",
            engine=measured.result.engine,
            gate=f"drop <= {gates.task:g} points, but for chance",
            figures=figures | {f"{name}_drop": loss.value for name, loss in lost.items()},
            detail=f"on {len(sampled.dataset.images)} of {sampled.total:,} images",
        )
    ]
