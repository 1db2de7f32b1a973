"""What artifacts lose of accuracy against their checkpoint, and whether that can be told from chance."""

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
from mobileclip_deploy.verify.graph import tower_as_stored
from mobileclip_deploy.verify.matching import Matched
from mobileclip_deploy.verify.subject import Subject

# What an artifact may lose of, in points (Gates.task).
TASK_FIGURES = ("top1", "image_to_text_recall@1")


def check_task(subject: Subject) -> list[Check]:
    """What the artifacts lose on the task, in points, against the checkpoint; gaining is not failing.

    The gate bounds what would be lost on all pictures like these: it is held where the upper end of the 95% interval
    holds it, and failed where the lower end does not. Between them it is undecided. One look at the pictures, and only
    where that does not tell, the other views.
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
    found = Looks(embedder, task.dataset, progress=about(subject.name, subject.progress))
    exact = all(precision_of(entry.precision).bits == 32 for entry in subject.bundle.manifest.towers.values())
    return [judged(task, found, paired_looks(task, found, TASK_FIGURES, gates.task, exact), gates)]


def runner_for_all(subject: Subject, tower: TowerName) -> Runner:
    """What answers for all pictures: see `stand_in`."""

    def stored() -> Runner | None:
        found = subject.matched.get(tower)
        return None if found is None else stored_runner(subject.module(tower), found, subject.grids(tower))

    return stand_in(subject.target, subject.artifact(tower), stored) or subject.runner(tower)


def stand_in(target: Target, artifact: Artifact, stored: Callable[[], Runner | None]) -> Runner | None:
    """What answers in the place of a runtime that would take hours for all pictures: the artifact's own stand-in, else
    torch with the weights that stand in the file; None where the target's own is fast, or the weights cannot be read.

    That the artifact computes this is what `graph` and `shipped` find on the inputs that its runtime is asked.

    Args:
        stored: makes the `stored_runner` of the artifact; None where its weights cannot be read.
    """
    if target.abilities.pace is None:
        return None
    return artifact.stand_in() or stored()


def stored_runner(module: nn.Module, found: Sequence[Matched], grids: Storage) -> Runner:
    """Torch with the weights that stand in a file.

    Args:
        module: the folded tower that was converted.
        found: which weight of the file is which of its layers'.
        grids: how its tensors are stored.
    """
    stored = tower_as_stored(module, found, grids)

    @torch.no_grad()
    def compute(inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        answers: npt.NDArray[np.float32] = stored(torch.from_numpy(np.ascontiguousarray(inputs))).numpy()
        return answers

    return TorchRunner(f"torch {torch.__version__} with the weights that stand in the file", compute)


def judged(own: Looks, found: Looks, paired: Paired, gates: Gates) -> Check:
    """The check of accuracy: the figures are of the pictures as they stand, the losses of all looks."""
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
    """As `check_task`, on some of the images: of so few a handful more or less is chance. So it fails where the whole
    95% interval of the loss, image by image against the checkpoint, lies beyond the gate."""
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
    within = all(gates.allow_drop(one.low) for one in lost.values())
    figures = {name: measured.result.figures[name].value for name in names}
    return [
        Check(
            step="sampled",
            tower="both",
            status="passed" if within else "failed",
            engine=measured.result.engine,
            gate=f"drop <= {gates.task:g} points, but for chance",
            figures=figures | {f"{name}_drop": one.value for name, one in lost.items()},
            detail=f"on {len(sampled.dataset.images)} of {sampled.total:,} images",
        )
    ]
