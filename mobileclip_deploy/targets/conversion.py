"""A tower as a target takes it, and an artifact of a bundle converted once more, to compare with what was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.precision import PRECISIONS
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets import ExportOptions, TowerJob, installed_target
from mobileclip_deploy.towers import example_input, make_tower
from mobileclip_deploy.towers.calibration import calibration_digest, calibration_inputs
from mobileclip_deploy.towers.classifier import LabelSet, make_classifier

__all__ = ["convert_again", "lacks_calibration", "tower_job"]


def tower_job(
    model: MobileCLIP, tower: TowerName, precision: str, options: ExportOptions, labels: LabelSet | None = None
) -> TowerJob:
    """What a target needs to write one tower of a folded model, or with labels the classifier of its image tower."""
    assert model.provenance is not None
    calibrated = PRECISIONS[precision].calibrated
    inputs = calibration_inputs(model.variant, tower, options.calibration) if calibrated else None
    return TowerJob(
        variant=model.variant,
        tower=tower,
        module=make_tower(model, tower) if labels is None else make_classifier(model, labels),
        labels=() if labels is None else labels.names,
        example=example_input(model, tower),
        precision=precision,
        licence=model.provenance.licence,
        options=options,
        calibration=inputs,
    )


def convert_again(
    bundle: Bundle,
    tower: TowerName,
    model: MobileCLIP,
    precision: str,
    folder: Path,
    calibration: Path | None = None,
) -> Path:
    """Write a tower by itself with the bundle's options, at a precision, into a folder: the path of the artifact.

    Args:
        model: the folded checkpoint.
        calibration: the folder of images that the bundle was calibrated on; None for the packaged samples.

    Raises:
        ExportError: the converter failed.
    """
    target = installed_target(bundle.manifest.target)
    path = folder / target.artifact_name(model.variant, tower, precision)
    options = replace(ExportOptions.restored(bundle.manifest.options), calibration=calibration)
    target.export(tower_job(model, tower, precision, options), path)
    return path


def lacks_calibration(bundle: Bundle, tower: TowerName, calibration: Path | None) -> str | None:
    """What a conversion of this tower needs and was not given: the images that its exporter calibrated it on.

    Raises:
        InvalidInput: the folder given holds other images.
    """
    options, precision = bundle.manifest.options, bundle.manifest.towers[tower].precision
    if not PRECISIONS[precision].calibrated or "calibration" not in options:
        return None
    if calibration is None:
        return f"needs the images in {options['calibration']!r} that it was calibrated on; give them with --calibration"
    if options.get("calibration_sha256") != calibration_digest(calibration):
        raise InvalidInput(f"{calibration} does not hold the images that {bundle.path.name} was calibrated on")
    return None
