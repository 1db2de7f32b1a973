"""The Core ML target: names, input and output; conversion is in `package`, running in `runner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.coreml.recipes import (
    DEFAULT_TARGET,
    is_older,
    reported,
    settle_multifunction,
    settle_target,
)
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Form, Place, Precisions, TensorInfo, TowerJob, answer_of, ids_of, pixels_of

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.benchmarking import RuntimePlace
    from mobileclip_deploy.targets.rules import StorageRules

__all__ = ["CoreMLOptions", "CoreMLTarget"]


@dataclass(frozen=True)
class CoreMLOptions(TargetOptions):
    """`deployment_target`: iOS15 to iOS18; None leaves it to the precisions. `multifunction` puts both towers into one
    package, one function per tower, which iOS 18 can read."""

    deployment_target: str | None = option(
        "--deployment-target", "The oldest system to run on [default: iOS16, or as needed].", metavar="iOSNN"
    )
    multifunction: bool = option(
        "--multifunction", "Both towers in one package, a function each (iOS18).", default=False
    )


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
        wanted = self.options.deployment_target
        if self.options.multifunction:
            target = settle_multifunction(precisions, wanted)
        else:
            target = settle_target(list(precisions.values()), wanted)
        return CoreMLTarget(replace(self.options, deployment_target=target))

    def advice(self, precisions: Precisions) -> str | None:
        said = [text for text in (self._raised(precisions), reported(precisions.values())) if text is not None]
        return " ".join(said) or None

    def _raised(self, precisions: Precisions) -> str | None:
        target = self.settled(precisions).options.deployment_target
        assert target is not None
        if self.options.deployment_target is not None or not is_older(DEFAULT_TARGET, target):
            return None
        raised = [
            name for name in dict.fromkeys(precisions.values()) if is_older(DEFAULT_TARGET, settle_target([name], None))
        ]
        if self.options.multifunction:
            raised = ["`multifunction`"]
        return f"Deployment target raised from {DEFAULT_TARGET} to {target}, which {' and '.join(raised)} needs."

    def rules(self, precision: str) -> StorageRules:
        from mobileclip_deploy.targets.coreml.storage import BEFORE_IOS18, RULES

        return BEFORE_IOS18 if is_older(self._oldest(precision), "iOS18") else RULES

    def _oldest(self, precision: str) -> str:
        return self.options.deployment_target or settle_target([precision], None)

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{variant.name}_{artifact}.mlpackage"

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        """Input and output of a tower. A classifier's output is a dictionary from label to probability, as Vision reads
        it; beside it stands `classLabel`."""
        source = pixels_of("image", variant, "uint8") if tower == "image" else ids_of("text", variant)
        probabilities = TensorInfo("classLabel_probs", "dictionary", ())
        return source, probabilities if labels else answer_of("final_emb_1", variant)

    def require_form(self, form: Form) -> None:
        super().require_form(form)
        if form.contexts and self.options.multifunction:
            raise UsageError("`contexts` are of a text tower in a package of its own; leave `multifunction` out")

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.coreml.package import write_package
        from mobileclip_deploy.targets.rules import storage_of

        storage = storage_of(self, job.tower, job.module, job.precision, job.four_bit)
        source, result = self.ports(job.variant, job.tower, job.form)
        write_package(job, path, self._oldest(job.precision), storage, source.name, result.name)
        return ()

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        if not self.options.multifunction:
            return super().place(folder, variant, files)
        from mobileclip_deploy.targets.coreml.multifunction import join

        name = f"{variant.name}.mlpackage"
        join({tower: folder / file for tower, file in files.items()}, folder / name, variant)
        return {tower: Place(name, tower) for tower in files}

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.coreml.opening import CoreMLArtifact

        return CoreMLArtifact(path, function)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        from mobileclip_deploy.targets.coreml.benchmarking import places

        return places(device)
