"""The Core ML target: names, input and output; conversion is in `package`, running in `runner`."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.targets.base import ExportOptions, Runner, Target, TensorInfo, TowerJob
from mobileclip_deploy.towers import TowerName
from mobileclip_deploy.variants import Variant

__all__ = ["CoreMLTarget"]

DEPLOYMENT_TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")


class CoreMLTarget(Target):
    name = "coreml"
    packages = ("coremltools",)
    precisions = ("fp32", "fp16")

    def require(self, precisions: dict[TowerName, str], options: ExportOptions) -> None:
        """As any target, and refuses a deployment target that does not exist.

        Raises:
            UsageError, DependencyMissing: see `Target.require`.
        """
        if options.deployment_target not in DEPLOYMENT_TARGETS:
            known = ", ".join(DEPLOYMENT_TARGETS)
            raise UsageError(f"unknown deployment target {options.deployment_target!r}; known: {known}")
        super().require(precisions, options)

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
