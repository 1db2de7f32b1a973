"""The Core ML target: names, input and output; conversion is in `package`, running in `runner`."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.coreml.options import PLACES, CoreMLOptions, allowed_units, is_older
from mobileclip_deploy.targets.coreml.storage import BEFORE_IOS18, RULES
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Form, Place, Ports, Precisions, RuntimePlace, TensorInfo, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.rules import StorageRules


class CoreMLTarget(Target):
    name = "coreml"
    title = "Core ML"
    Options = CoreMLOptions
    options: CoreMLOptions
    abilities = Abilities(
        packages=("coremltools",),
        extra="coreml",
        proven={"coremltools": "9.0 or 9.1.dev1"},
        suffixes=(".mlpackage",),
        order=2,
        precisions=("fp32", "fp16", "w8", "w8a8", "w6p", "w4p", "w4p-p50", "w4"),
        tables=("w8", "w6p", "w4p", "w4"),
        mixes=True,
        recoverable=True,
        absorbs_layer_scales=True,
        readable=True,
        input_types={"image": ("uint8",), "text": ("int32",)},
        no_pictures="its image input takes bytes of one size already, and ML programs have no antialiased resizing; "
        "let Vision or Core Image resize (docs/coreml.md)",
        no_contexts=None,
        not_searched={"multifunction": "smallest searches a precision for each tower; leave `multifunction` out"},
        ports=Ports(embedding="final_emb_1", probabilities="classLabel_probs", pixels="uint8"),
        places=dict.fromkeys(("host", "ios", "mac"), PLACES),
        runtime_modules=("coremltools",),
    )

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """As any target, and refuses a deployment target that does not exist or is too old for what is wanted.

        Raises:
            UsageError, DependencyMissing: see `Target.require`.
        """
        super().require(precisions, mixed)
        self.settled(precisions)

    def settled(self, precisions: Precisions) -> CoreMLTarget:
        return CoreMLTarget(self.options.settled(precisions))

    def advice(self, precisions: Precisions) -> str | None:
        return self.options.advice(precisions)

    def rules(self, precision: str) -> StorageRules:
        return BEFORE_IOS18 if is_older(self.options.oldest(precision), "iOS18") else RULES

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        """Input and output of a tower. A classifier's output is a dictionary from label to probability, as Vision reads
        it; beside it stands `classLabel`."""
        source, result = super().tensors(variant, tower, labels)
        return source, TensorInfo(result.name, "dictionary", ()) if labels else result

    def require_form(self, form: Form) -> None:
        super().require_form(form)
        if form.contexts and self.options.multifunction:
            raise UsageError("`contexts` are of a text tower in a package of its own; leave `multifunction` out")

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.coreml.package import write_package
        from mobileclip_deploy.targets.rules import storage_of

        storage = storage_of(self, job.tower, job.module, job.precision, job.four_bit)
        source, result = self.ports(job.variant, job.tower, job.form)
        write_package(job, path, self.options.oldest(job.precision), storage, source.name, result.name)
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
