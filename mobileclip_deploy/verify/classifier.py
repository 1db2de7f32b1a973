"""Verification of a classifier: its probabilities against the checkpoint's, stage by stage."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput, NotRun
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.precision import PRECISIONS
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import ExportOptions, installed_target
from mobileclip_deploy.targets.conversion import tower_job
from mobileclip_deploy.towers.classifier import LabelSet, labels_json, make_classifier, probabilities

__all__ = ["SEMANTIC", "bound", "classifier_checks"]

# Largest difference of a probability in float32 arithmetic: a logit is a cosine times up to 100.
SEMANTIC = 1e-3
# By the bits of a weight, and where activations are int8. A probability near one half moves by a quarter of what its
# logit moves, and at a logit scale of 100 a cosine that is off by 0.01 moves a logit by 1.
BOUNDS = {32: SEMANTIC, 16: 0.02, 8: 0.1}
COARSE = 0.2


def bound(precision: str) -> float:
    """How far a probability may be from the checkpoint's; where one label leads by more than twice that, it stays."""
    recipe = PRECISIONS[precision]
    return COARSE if recipe.calibrated else BOUNDS.get(recipe.bits, COARSE)


def classifier_checks(bundle: Bundle, reference: Reference, model: MobileCLIP | None, structure: Check) -> list[Check]:
    """The checks of a classifier's bundle: structure, tower, float32 twin, and the artifact as written.

    Without the checkpoint only its structure can be checked: the artifact holds no text tower that could embed the
    labels again.
    """
    if model is None:
        reason = f"needs the checkpoint {bundle.manifest.checkpoint.file}; give it with --checkpoint"
        return [structure, *(Check.not_run(step, "image", reason) for step in ("tower", "twin", "shipped"))]
    entry, classifier = bundle.manifest.towers["image"], bundle.manifest.classifier
    assert classifier is not None
    labels = LabelSet(classifier.labels, classifier.template)
    wanted = probabilities(model, labels, reference.of("image"))
    pixels = reference.inputs.pixels
    module = make_classifier(model, labels)
    with torch.no_grad():
        prepared = torch.cat([module(batch) for batch in torch.from_numpy(pixels).split(32)]).numpy()
    engine = f"torch {torch.__version__}"
    checks = [structure, _measured("tower", wanted, prepared, SEMANTIC, engine)]
    target = installed_target(bundle.manifest.target)
    artifact = bundle.artifact("image")
    if entry.precision == "fp32":
        checks.append(_run("twin", bundle, artifact, wanted, pixels, SEMANTIC))
    else:
        with tempfile.TemporaryDirectory(prefix="mobileclip-twin-") as folder:
            path = Path(folder) / target.classifier_name(model.variant, "fp32")
            options = ExportOptions.restored(bundle.manifest.options)
            target.export(tower_job(model, "image", "fp32", options, labels), path)
            (path.parent / "labels.json").write_text(labels_json(labels.names), encoding="utf-8")
            checks.append(_run("twin", bundle, path, wanted, pixels, SEMANTIC))
    return [*checks, _run("shipped", bundle, artifact, wanted, pixels, bound(entry.precision))]


def _run(
    step: str,
    bundle: Bundle,
    path: Path,
    wanted: npt.NDArray[np.float32],
    pixels: npt.NDArray[np.float32],
    limit: float,
) -> Check:
    try:
        runner = installed_target(bundle.manifest.target).runner(path)
    except NotRun as error:
        return Check.not_run(step, "image", str(error))
    try:
        found = runner(pixels)
    except InvalidInput as error:
        return Check(step=step, tower="image", status="failed", engine=runner.engine, detail=str(error))
    return _measured(step, wanted, found, limit, runner.engine)


def _measured(
    step: str, wanted: npt.NDArray[np.float32], found: npt.NDArray[np.float32], limit: float, engine: str
) -> Check:
    gate = f"probabilities within {limit:g}"
    if found.shape != wanted.shape:
        detail = f"probabilities of shape {list(found.shape)}, wanted {list(wanted.shape)}"
        return Check(step=step, tower="image", status="failed", engine=engine, gate=gate, detail=detail)
    difference = float(np.abs(found - wanted).max())
    agreement = 100 * float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean())
    return Check(
        step=step,
        tower="image",
        status="passed" if difference <= limit else "failed",  # anything that is not a number is not
        engine=engine,
        gate=gate,
        figures={"largest_difference": difference if np.isfinite(difference) else 1.0, "top1_agreement": agreement},
    )
