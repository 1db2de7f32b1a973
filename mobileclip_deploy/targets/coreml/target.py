"""The Core ML target: names, input and output; conversion is in `package`, running in `runner`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mobileclip_deploy.bundle import TensorInfo
from mobileclip_deploy.model.variants import TowerName, Variant
from mobileclip_deploy.targets.base import ExportOptions, Place, Runner, Target, TowerJob
from mobileclip_deploy.targets.benchmarking import RuntimePlace, Session, SessionSetup
from mobileclip_deploy.targets.coreml.benchmarking import CoreMLSession, places
from mobileclip_deploy.targets.coreml.multifunction import join, settle_multifunction
from mobileclip_deploy.targets.coreml.recipes import DEFAULT_TARGET, RECIPES, is_older, recipe_of, settle_target

__all__ = ["CoreMLTarget"]


class CoreMLTarget(Target):
    name = "coreml"
    packages = ("coremltools",)
    precisions = tuple(RECIPES)
    mixes = True
    runtime_modules = ("coremltools",)

    def __init__(self, function: str | None = None) -> None:
        self.function = function

    def for_function(self, function: str | None) -> CoreMLTarget:
        return CoreMLTarget(function)

    def require(self, precisions: dict[TowerName, str], options: ExportOptions) -> None:
        """As any target, and refuses a deployment target that does not exist or is too old for what is wanted.

        Raises:
            UsageError, InvalidInput, DependencyMissing: see `Target.require`.
        """
        super().require(precisions, options)
        self.settle(precisions, options)

    def settle(self, precisions: dict[TowerName, str], options: ExportOptions) -> ExportOptions:
        return replace(options, deployment_target=_settle(precisions, options))

    def advice(self, precisions: dict[TowerName, str], options: ExportOptions) -> str | None:
        target = _settle(precisions, options)
        if options.deployment_target is not None or not is_older(DEFAULT_TARGET, target):
            return None
        raised = [
            name for name in dict.fromkeys(precisions.values()) if is_older(DEFAULT_TARGET, recipe_of(name).oldest)
        ]
        if options.multifunction:
            raised = ["--multifunction"]
        return f"Deployment target raised from {DEFAULT_TARGET} to {target}, which {' and '.join(raised)} needs."

    def artifact_name(self, variant: Variant, tower: TowerName, precision: str) -> str:
        return f"{variant.name}_{tower}.mlpackage"

    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        if tower == "image":
            return TensorInfo("image", "uint8", (1, *variant.image_input_shape), (0.0, 255.0), "RGB")
        return TensorInfo("text", "int32", (1, variant.tokenizer.context_length))

    def output_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        return TensorInfo("final_emb_1", "float32", (1, variant.embed_dim), normalised=False)

    def classifier_name(self, variant: Variant, precision: str) -> str:
        return f"{variant.name}_classifier.mlpackage"

    def probabilities_info(self, labels: int) -> TensorInfo:
        """A dictionary from label to probability, as Vision reads it; beside it stands `classLabel`."""
        return TensorInfo("classLabel_probs", "dictionary", ())

    def export(self, job: TowerJob, path: Path) -> None:
        from mobileclip_deploy.targets.coreml.package import write_package

        write_package(job, path, self.input_info(job.variant, job.tower).name, self.result_info(job).name)

    def place(
        self, folder: Path, variant: Variant, files: dict[TowerName, str], options: ExportOptions
    ) -> dict[TowerName, Place]:
        if not options.multifunction:
            return super().place(folder, variant, files, options)
        name = f"{variant.name}.mlpackage"
        join({tower: folder / file for tower, file in files.items()}, folder / name, variant)
        return {tower: Place(name, tower) for tower in files}

    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        from mobileclip_deploy.targets.coreml.specification import describe

        return describe(path, self.function)

    def operators(self, path: Path) -> dict[str, int]:
        from mobileclip_deploy.targets.coreml.specification import operators

        return operators(path, self.function)

    def runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.coreml.runner import load_runner

        return load_runner(path, self.function)

    def runners(self, path: Path) -> Iterator[Callable[[], Runner]]:
        from mobileclip_deploy.targets.coreml.runner import load_runners

        return load_runners(path, self.function)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        return places(device)

    def session(self, path: Path, setup: SessionSetup) -> Session:
        return CoreMLSession(path, setup, self.function)


def _settle(precisions: dict[TowerName, str], options: ExportOptions) -> str:
    if options.multifunction:
        return settle_multifunction(precisions, options.deployment_target)
    return settle_target(list(precisions.values()), options.deployment_target)
