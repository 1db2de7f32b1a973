"""The Core ML target: names, input and output; conversion is in `package`, running in `runner`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.targets.base import ExportOptions, Runner, Target, TensorInfo, TowerJob
from mobileclip_deploy.targets.coreml.recipes import DEFAULT_TARGET, RECIPES, is_older, settle_target
from mobileclip_deploy.towers import TowerName
from mobileclip_deploy.variants import Variant

__all__ = ["CoreMLTarget"]


class CoreMLTarget(Target):
    name = "coreml"
    packages = ("coremltools",)
    precisions = tuple(RECIPES)

    def require(self, precisions: dict[TowerName, str], options: ExportOptions) -> None:
        """As any target, and refuses a deployment target that does not exist or is too old for a precision.

        Raises:
            UsageError, InvalidInput, DependencyMissing: see `Target.require`.
        """
        super().require(precisions, options)
        self.settle(precisions, options)

    def settle(self, precisions: dict[TowerName, str], options: ExportOptions) -> ExportOptions:
        target = settle_target(list(precisions.values()), options.deployment_target)
        return replace(options, deployment_target=target)

    def advice(self, precisions: dict[TowerName, str], options: ExportOptions) -> str | None:
        target = settle_target(list(precisions.values()), options.deployment_target)
        if options.deployment_target is not None or not is_older(DEFAULT_TARGET, target):
            return None
        raised = [name for name in dict.fromkeys(precisions.values()) if is_older(DEFAULT_TARGET, RECIPES[name].oldest)]
        return f"Deployment target raised from {DEFAULT_TARGET} to {target}, which {' and '.join(raised)} needs."

    def artifact_name(self, variant: Variant, tower: TowerName, precision: str) -> str:
        return f"{variant.name}_{tower}.mlpackage"

    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        if tower == "image":
            return TensorInfo("image", "uint8", (1, *variant.image_input_shape), (0.0, 255.0), "RGB")
        return TensorInfo("text", "int32", (1, variant.tokenizer.context_length))

    def output_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        return TensorInfo("final_emb_1", "float32", (1, variant.embed_dim), normalised=False)

    def export(self, job: TowerJob, path: Path) -> None:
        from mobileclip_deploy.targets.coreml.package import write_package

        write_package(
            job, path, self.input_info(job.variant, job.tower).name, self.output_info(job.variant, job.tower).name
        )

    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        from mobileclip_deploy.targets.coreml.specification import describe

        return describe(path)

    def operators(self, path: Path) -> dict[str, int]:
        from mobileclip_deploy.targets.coreml.specification import operators

        return operators(path)

    def runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.coreml.runner import load_runner

        return load_runner(path)
