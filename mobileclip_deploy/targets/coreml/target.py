"""The Core ML target: names, input and output; conversion is in `package`, running in `runner`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.targets.base import Target
from mobileclip_deploy.targets.coreml.recipes import (
    DEFAULT_TARGET,
    RECIPES,
    is_older,
    reported,
    settle_multifunction,
    settle_target,
)
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.values import Place, Precisions, Runner, TensorInfo, TowerJob

if TYPE_CHECKING:
    from torch import nn

    from mobileclip_deploy.mil import Program
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.benchmarking import RuntimePlace, Session, SessionSetup
    from mobileclip_deploy.targets.graph import Graph
    from mobileclip_deploy.targets.grids.decode import StoredWeight
    from mobileclip_deploy.targets.inspection import PackageInspection
    from mobileclip_deploy.targets.rounded import RoundedFile
    from mobileclip_deploy.targets.storage import Storage

__all__ = ["CoreMLOptions", "CoreMLTarget"]


@dataclass(frozen=True)
class CoreMLOptions(TargetOptions):
    """`deployment_target`: iOS15 to iOS18; None leaves it to the precisions. `multifunction` puts both towers into one
    package, a function each, which iOS 18 can read."""

    deployment_target: str | None = option(
        "--deployment-target", "The oldest system to run on [default: iOS16, or as needed].", metavar="iOSNN"
    )
    multifunction: bool = option(
        "--multifunction", "Both towers in one package, a function each (iOS18).", default=False
    )


class CoreMLTarget(Target):
    name = "coreml"
    title = "Core ML"
    packages = ("coremltools",)
    proven: ClassVar[Mapping[str, str]] = {"coremltools": "9.0 or 9.1.dev1"}
    extra = "coreml"
    suffixes = (".mlpackage",)
    order = 2
    runtime_modules = ("coremltools",)
    Options = CoreMLOptions
    options: CoreMLOptions
    precisions = tuple(RECIPES)
    tables = ("w8", "w6p", "w4p", "w4")
    mixes = recoverable = absorbs_layer_scales = True
    readable = True
    no_pictures = (
        "its image input takes bytes of one size already, and ML programs have no antialiased resizing; let Vision or "
        "Core Image resize (docs/coreml.md)"
    )

    def __init__(self, options: TargetOptions | None = None, function: str | None = None) -> None:
        super().__init__(options)
        self.function = function

    def for_function(self, function: str | None) -> CoreMLTarget:
        return CoreMLTarget(self.options, function)

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """As any target, and refuses a deployment target that does not exist or is too old for what is wanted.

        Raises:
            UsageError, DependencyMissing: see `Target.require`.
        """
        super().require(precisions, mixed)
        self.settled(precisions)

    def require_searchable(self) -> None:
        super().require_searchable()
        if self.options.multifunction:
            raise UsageError("smallest searches a precision for each tower; leave `multifunction` out")

    def settled(self, precisions: Precisions) -> CoreMLTarget:
        wanted = self.options.deployment_target
        if self.options.multifunction:
            target = settle_multifunction(precisions, wanted)
        else:
            target = settle_target(list(precisions.values()), wanted)
        return CoreMLTarget(replace(self.options, deployment_target=target), self.function)

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

    def storage(
        self, tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()
    ) -> Storage:
        from mobileclip_deploy.targets.coreml.storage import storage
        from mobileclip_deploy.targets.storage import with_table

        oldest = self._oldest(precision)
        return with_table(module, precision, lambda name: storage(module, name, oldest, four_bit))

    def _oldest(self, precision: str) -> str:
        return self.options.deployment_target or settle_target([precision], None)

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{variant.name}_{artifact}.mlpackage"

    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        if tower == "image":
            return TensorInfo("image", "uint8", (1, *variant.image_input_shape), (0.0, 255.0), "RGB")
        return TensorInfo("text", "int32", (1, variant.tokens.context_length))

    def output_info(self, variant: Variant, tower: TowerName, labels: int = 0) -> TensorInfo:
        """Of a classifier a dictionary from label to probability, as Vision reads it; beside it stands `classLabel`."""
        if labels:
            return TensorInfo("classLabel_probs", "dictionary", ())
        return TensorInfo("final_emb_1", "float32", (1, *variant.answer_shape), normalised=False)

    def input_types(self, tower: TowerName) -> tuple[str, ...]:
        return ("uint8",) if tower == "image" else ("int32",)

    def require_contexts(self) -> None:
        """It can, each length enumerated.

        Raises:
            UsageError: with both towers in one package.
        """
        if self.options.multifunction:
            raise UsageError("`contexts` are of a text tower in a package of its own; leave `multifunction` out")

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.coreml.package import write_package

        storage = self.storage(job.tower, job.module, job.precision, job.four_bit)
        write_package(job, path, self._oldest(job.precision), storage, *self.port_names(job))
        return ()

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        if not self.options.multifunction:
            return super().place(folder, variant, files)
        from mobileclip_deploy.targets.coreml.multifunction import join

        name = f"{variant.name}.mlpackage"
        join({tower: folder / file for tower, file in files.items()}, folder / name, variant)
        return {tower: Place(name, tower) for tower in files}

    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        from mobileclip_deploy.targets.coreml.specification import describe

        return describe(path, self.function)

    def operators(self, path: Path) -> dict[str, int]:
        from mobileclip_deploy.targets.coreml.specification import operators

        return operators(path, self.function)

    def inspect(self, path: Path) -> PackageInspection:
        from mobileclip_deploy.targets.coreml.inspection import inspect_package

        return inspect_package(path)

    def graph(self, path: Path) -> Graph:
        from mobileclip_deploy.targets.coreml.reading import read_graph

        return read_graph(path, self.function)

    def weights(self, path: Path) -> tuple[StoredWeight, ...]:
        from mobileclip_deploy.targets.coreml.weights import read_weights

        return read_weights(path, self.function)

    def program(self, path: Path, *, evaluate: bool = True) -> Program:
        from mobileclip_deploy.mil import load

        return load(path, self.function, evaluate=evaluate)

    def runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.coreml.runner import load_runner

        return load_runner(path, self.function)

    def plain_runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.coreml.runner import EvaluatorRunner

        return EvaluatorRunner(path, self.function, plain=True)

    def rounded(self, path: Path) -> RoundedFile:
        from mobileclip_deploy.targets.coreml.roundings import RoundedProgram

        return RoundedProgram(path, self.function)

    def runners(self, path: Path) -> Iterator[Callable[[], Runner]]:
        from mobileclip_deploy.targets.coreml.runner import load_runners

        return load_runners(path, self.function)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        from mobileclip_deploy.targets.coreml.benchmarking import places

        return places(device)

    def session(self, path: Path, setup: SessionSetup) -> Session:
        from mobileclip_deploy.targets.coreml.benchmarking import CoreMLSession

        return CoreMLSession(path, setup, self.function)
