"""Check of the accuracy that artifacts lose against their checkpoint, with a test against chance."""

from mobileclip_deploy.base.progress import about
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.evaluation.looks import Looks, Paired, paired_looks
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.parity import Check, Gates
from mobileclip_deploy.parity.report import Lost
from mobileclip_deploy.pictures.embedder import bundle_embedder
from mobileclip_deploy.verify.subject import Subject

# The figures whose loss is gated, in points (Gates.task).
TASK_FIGURES = ("top1", "image_to_text_recall@1")


def check_task(subject: Subject) -> list[Check]:
    """Checks the accuracy loss against the checkpoint, in points; a gain never fails.

    The gate bounds the loss on all images of this kind, by the 95% interval of the loss. The check passes if the upper
    end is within the gate, and fails if the lower end is beyond it. Between the two it is undecided. The plain images
    are run first. The augmented views follow only if the plain images do not decide. A quick verification measures
    nothing; a recorded loss that is undecided stays undecided.
    """
    task, gates = subject.evidence.task, subject.gates
    if not subject.thorough and subject.complete:
        recorded = (row for row in subject.bundle.parity if row.step == "task" and row.status == "undecided")
        return [next(recorded, Check.not_wanted("task", "both"))]
    if task is None or not subject.complete:
        return []
    try:
        embedder = bundle_embedder(subject.bundle, load=lambda tower: subject.towers[tower].runner_for_all())
    except NotRun as error:
        return [Check.not_run("task", "both", str(error))]
    runs = Looks(embedder, task.dataset, progress=about(subject.name, subject.progress))
    exact = all(precision_of(tower.precision).bits == 32 for tower in subject.towers.values())
    return [judged(task, runs, paired_looks(task, runs, TASK_FIGURES, gates.task, exact), gates)]


def judged(checkpoint: Looks, artifacts: Looks, paired: Paired, gates: Gates) -> Check:
    """Returns the check of accuracy. Its figures are those of the plain images, its losses those of all runs."""
    before, after = checkpoint.plain.result.figures, artifacts.plain.result
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
