"""Jobs of targets: builds a `TowerJob` from a source, a precision and a head."""

from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.artifacts.towers.calibration import calibration_inputs
from mobileclip_deploy.artifacts.towers.head import EMBEDDING, Head
from mobileclip_deploy.artifacts.towers.tower import example_input
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.values import PLAIN, Form, TowerJob


def tower_job(
    source: Source,
    tower: TowerName,
    precision: str,
    *,
    head: Head = EMBEDDING,
    form: Form = PLAIN,
    calibration: Path | None = None,
) -> TowerJob:
    """Returns the job of one tower of a folded source, with nothing `shared` and no layer chosen for 4 bits.

    Args:
        head: head that the artifact ends with; it decides the number of labels, and whether embeddings have length 1.
        form: further properties of the artifact.
        calibration: a folder of images (and prompts) for precisions that measure activations; None for the packaged
            samples.

    Raises:
        UsageError: the source is not folded, or lacks the tower.
        InvalidInput: the calibration folder holds no image, or one that cannot be read.
    """
    model, calibrated = source.model, precision_of(precision).calibrated
    form = replace(
        form,
        labels=len(head.names),
        normalised=head.normalised,
        pictures=form.pictures and tower == "image",
        contexts=form.contexts if tower == "text" else (),
        pads_inside=form.pads_inside and tower == "text" and source.variant.ends_texts,
    )
    return TowerJob(
        variant=source.variant,
        tower=tower,
        module=head.module(model, tower, bool(form.contexts)),
        labels=head.names,
        example=example_input(model, tower),
        precision=precision,
        licence=source.provenance.licence,
        calibration=calibration_inputs(source.variant, tower, calibration) if calibrated else None,
        embedding_space=source.provenance.embedding_space,
        checkpoint_sha256=source.provenance.sha256,
        form=form,
    )
