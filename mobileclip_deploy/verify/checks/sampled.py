"""Check of accuracy on a sample of the images."""

from mobileclip_deploy.base.progress import about
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.parity import Check
from mobileclip_deploy.pictures.embedder import bundle_embedder
from mobileclip_deploy.verify.checks.task import TASK_FIGURES
from mobileclip_deploy.verify.subject import Subject


def check_sampled(subject: Subject) -> list[Check]:
    """Checks accuracy as `check_task` does, on a sample of the images. A few images more or less are chance in a small
    sample. So the check fails only if the whole 95% interval of the paired loss is beyond the gate."""
    sampled, gates = subject.evidence.sampled, subject.gates
    if sampled is None:
        return []
    try:
        embedder = bundle_embedder(subject.bundle, load=lambda tower: subject.towers[tower].runner_for_all())
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
            gate=f"drop <= {gates.task:g} points, within chance",
            figures=figures | {f"{name}_drop": loss.value for name, loss in lost.items()},
            detail=f"on {len(sampled.dataset.images)} of {sampled.total:,} images",
        )
    ]
