"""The Core ML target: names, input and output; `package` converts, `runner` runs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.capabilities import Capabilities, Formats, Packages, Places, Storing
from mobileclip_deploy.targets.coreml.options import (
    DEFAULT_TARGET,
    MULTIFUNCTION_TARGET,
    UNITS,
    CoreMLOptions,
    allowed_units,
    needed_target,
    reported,
)
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.rules import Shared, StorageRules, storage_of
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Form, Place, Ports, Precisions, RuntimePlace, TensorInfo, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.foreign_file import ForeignFile

PLACES = tuple(RuntimePlace("coreml", compute_units=unit) for unit in UNITS)
GROUPS = (32, 16, 8)
RULES = StorageRules(
    eight=integers(8, scale_bytes=2),
    four=Shared(integers(4, scale_bytes=2), GROUPS),
    table=Shared(Grid(4, "table"), GROUPS),
    rest_bits=16,
    labels=True,
)
# One table per weight, and each scale has a zero point.
BEFORE_IOS18 = replace(RULES, eight=integers(8, scale_bytes=3), table=Shared(Grid(4, "table")))


class CoreMLTarget(Target):
    name = "coreml"
    title = "Core ML"
    Options = CoreMLOptions
    options: CoreMLOptions
    capabilities = Capabilities(
        packages=Packages(
            required=("coremltools",),
            extra="coreml",
            proven={"coremltools": "9.0 or 9.1.dev1"},
            runtime_modules=("coremltools",),
        ),
        formats=Formats(
            suffixes=(".mlpackage",),
            order=2,
            readable=True,
            not_searched={
                "multifunction": "`precision='smallest'` searches a precision for each tower; leave `multifunction` out"
            },
        ),
        ports=Ports(
            embedding="final_emb_1",
            probabilities="classLabel_probs",
            pixels="uint8",
            input_types={"image": ("uint8",), "text": ("int32",)},
            why_no_pictures="its image input already takes bytes of one size, and ML programs have no antialiased "
            "resizing; let Vision or Core Image resize (docs/coreml.md)",
            why_no_contexts=None,
        ),
        storing=Storing(
            precisions=("fp32", "fp16", "w8", "w8a8", "w6p", "w4p", "w4p-p50", "w4"),
            tables=("w8", "w6p", "w4p", "w4"),
            mixes=True,
            learns_rounding=True,
            absorbs_layer_scales=True,
        ),
        places=Places(dict.fromkeys(("host", "ios", "mac"), PLACES)),
    )

    def settled(self, precisions: Precisions) -> CoreMLTarget:
        """Returns the target with its deployment target: the chosen one, or the minimum of the precisions and
        functions. Refuses one that is unknown, or too old for them."""
        chosen, functions = self.options.deployment_target, self.options.multifunction
        if functions and len(precisions) == 1:
            (tower,) = precisions
            alone = f"leave it out for the {tower} tower alone"
            raise UsageError(f"`multifunction` puts both towers into one package; {alone}")
        oldest = needed_target(precisions.values(), chosen or (MULTIFUNCTION_TARGET if functions else None))
        if functions and oldest < MULTIFUNCTION_TARGET:
            raise UsageError(
                f"`multifunction` needs {MULTIFUNCTION_TARGET} (packages of several functions), but the deployment "
                f"target is {oldest}; give {MULTIFUNCTION_TARGET} or leave one of the two out"
            )
        return CoreMLTarget(replace(self.options, deployment_target=oldest))

    def advice(self, precisions: Precisions) -> str | None:
        """Returns the reason for a raised deployment target, and others' reports about these precisions."""
        oldest, messages = self.settled(precisions).options.deployment_target, [reported(precisions.values())]
        if oldest is not None and self.options.deployment_target is None and oldest > DEFAULT_TARGET:
            raised = [name for name in dict.fromkeys(precisions.values()) if needed_target([name]) > DEFAULT_TARGET]
            why = "`multifunction`" if self.options.multifunction else " and ".join(raised)
            messages.insert(0, f"Deployment target raised from {DEFAULT_TARGET} to {oldest}, which {why} needs.")
        return " ".join(text for text in messages if text) or None

    def _oldest(self, precision: str) -> str:
        return self.options.deployment_target or needed_target([precision])

    def rules(self, precision: str) -> StorageRules:
        return RULES if self._oldest(precision) >= "iOS18" else BEFORE_IOS18

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        """Returns input and output of a tower. A classifier's output is a dictionary from label to probability, as
        Vision reads it; `classLabel` is another output."""
        source, result = super().tensors(variant, tower, labels)
        return source, TensorInfo(result.name, "dictionary", ()) if labels else result

    def require_form(self, form: Form) -> None:
        super().require_form(form)
        if form.contexts and self.options.multifunction:
            raise UsageError("`contexts` need the text tower in a separate package; leave `multifunction` out")

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.coreml.package import write_package

        storage = storage_of(self, job.tower, job.module, job.precision, job.four_bit)
        source, result = self.ports(job.variant, job.tower, job.form)
        write_package(job, path, self._oldest(job.precision), storage, source.name, result.name)
        return ()

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        if not self.options.multifunction:
            return super().place(folder, variant, files)
        from mobileclip_deploy.targets.coreml.package import join

        name = f"{variant.name}.mlpackage"
        join({tower: folder / file for tower, file in files.items()}, folder / name, variant)
        return {tower: Place(name, tower) for tower in files}

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.coreml.opening import CoreMLArtifact

        return CoreMLArtifact(path, function)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        if device == "host" and platform.system() != "Darwin":
            raise NotRun("Core ML exists on macOS only (the evaluator's time is no latency)")
        units = allowed_units()
        return tuple(place for place in super().places(device, options) if place.compute_units in units)

    def open_foreign(self, path: Path) -> ForeignFile:
        from mobileclip_deploy.targets.coreml.foreign import open_foreign

        return open_foreign(path)
