"""Is a written artifact what a conversion of its checkpoint gives today? The check for what rounding hides.

At a reduced precision a small mistake in the file moves the embeddings less than rounding does, and the gate on what
was shipped has to let it pass. Conversion is deterministic: so the file is compared with a new one, bytes first, then
operation by operation.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from pathlib import Path

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import artifact_sha256
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets.conversion import convert_again, lacks_calibration
from mobileclip_deploy.verify.program_comparison import compare_programs

__all__ = ["check_reproduced", "is_reproducible"]

STEP = "reproduced"
# What decides, beside the checkpoint, which operations a conversion writes and with which constants.
CONVERTERS = ("mobileclip-deploy", "torch", "coremltools")


def is_reproducible(bundle: Bundle, tower: TowerName) -> bool:
    """Whether this check adds to the others: a Core ML package whose precision hides more than float32's does."""
    return bundle.manifest.target == "coreml" and bundle.manifest.towers[tower].precision != "fp32"


def check_reproduced(bundle: Bundle, tower: TowerName, model: MobileCLIP, calibration: Path | None = None) -> Check:
    """The package as written against one converted now from the same checkpoint, with the same options.

    Passed: the same bytes, or the same operations, wiring and constants. Where they differ and the versions that wrote
    the package are others than those here, nothing can be said, and the check counts as not run.

    Args:
        model: the checkpoint, folded.
        calibration: the folder of images that the bundle was calibrated on, if on one of the exporter's.

    Raises:
        InvalidInput: the folder holds other images.
        ExportError: the converter failed.
    """
    from mobileclip_deploy.mil import load

    lacks = lacks_calibration(bundle, tower, calibration)
    if lacks is not None:
        return Check.not_run(STEP, tower, lacks)
    entry, artifact = bundle.manifest.towers[tower], bundle.artifact(tower)
    engine = f"a conversion by coremltools {importlib.metadata.version('coremltools')}"
    with tempfile.TemporaryDirectory(prefix="mobileclip-again-") as folder:
        fresh = convert_again(bundle, tower, model, entry.precision, Path(folder), calibration)
        if artifact_sha256(fresh) == artifact_sha256(artifact):
            return Check(step=STEP, tower=tower, status="passed", engine=engine, detail="byte for byte")
        try:
            written = load(artifact, entry.function, evaluate=False)
        except InvalidInput as error:
            return Check(step=STEP, tower=tower, status="failed", engine=engine, detail=str(error))
        found = compare_programs(tower, written, load(fresh, evaluate=False), ())
    if found.finding == "none":
        return Check(step=STEP, tower=tower, status="passed", engine=engine, detail=found.detail)
    others = _other_versions(bundle)
    if others:
        reason = f"differs from a conversion here, but was written by other versions ({others}); verify with those"
        return Check.not_run(STEP, tower, f"{reason}: {found.where()}")
    return Check(step=STEP, tower=tower, status="failed", engine=engine, detail=found.where())


def _other_versions(bundle: Bundle) -> str:
    written = bundle.manifest.environment
    pairs = [(name, written.get(name), importlib.metadata.version(name)) for name in CONVERTERS]
    return ", ".join(f"{name} {then}, here {now}" for name, then, now in pairs if then != now)
