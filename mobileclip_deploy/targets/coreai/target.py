"""The Core AI target: names, input and output; conversion is in `authoring`, running in `runner`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError
from mobileclip_deploy.targets.base import Target
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.values import Place, Precisions, Runner, TensorInfo, TowerJob

if TYPE_CHECKING:
    from torch import nn

    from mobileclip_deploy.mil.lint import LintReport
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.benchmarking import RuntimePlace
    from mobileclip_deploy.targets.graph import Graph
    from mobileclip_deploy.targets.grids.decode import StoredWeight
    from mobileclip_deploy.targets.inspection import PackageInspection
    from mobileclip_deploy.targets.storage import Storage

__all__ = ["CoreAITarget"]

WHERE = "coreai-core has wheels for Linux x86-64 (glibc 2.34 or newer) and macOS 26 on arm64, CPython 3.11 to 3.14"


@dataclass(frozen=True)
class CoreAIOptions(TargetOptions):
    """`multifunction` puts both towers into one asset, a function each. `image_entry`: the image tower takes a picture,
    32-bit BGRA as a camera gives it, in place of float32 pixels. `as_maps`: linear layers are written as convolutions
    of 1 x 1 and sequences as maps of height 1, as Apple prefers them on the Neural Engine."""

    multifunction: bool = option("--multifunction", "Both towers in one asset, a function each.", default=False)
    image_entry: bool = option(
        "--image-entry", "The image tower takes a picture (32-bit BGRA), not float32 pixels.", default=False
    )
    as_maps: bool = option(
        "--as-maps",
        "Linear layers as 1 x 1 convolutions, sequences as maps: Apple's advice (fp32 and fp16).",
        default=False,
    )


class CoreAITarget(Target):
    name = "coreai"
    title = "Core AI"
    packages = ("coreai_torch",)  # which is for one version of coreai-core
    proven: ClassVar[Mapping[str, str]] = {"coreai-core": "1.0.0b3", "coreai-torch": "0.4.3"}
    extra = "coreai"
    suffixes = (".aimodel",)
    order = 4
    no_contexts = "what checks its programs here reads none of a free length, and what is not checked is not written"
    no_pictures = "its converter has no antialiased resizing, without which embeddings of photographs are other ones"
    Options = CoreAIOptions
    options: CoreAIOptions
    precisions = ("fp32", "fp16", "w8", "w6p", "w4p", "w4")
    tables = ("w8", "w6p", "w4p", "w4")
    mixes = learns_rounding = True
    runtime_modules = ("coreai.runtime",)

    def __init__(self, options: TargetOptions | None = None, function: str | None = None) -> None:
        super().__init__(options)
        self.function = function

    def for_function(self, function: str | None) -> CoreAITarget:
        return CoreAITarget(self.options, function)

    def require_installed(self) -> None:
        try:
            super().require_installed()
        except DependencyMissing as error:
            raise DependencyMissing(f"{error} ({WHERE})") from None

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """As any target, and refuses to join one tower alone.

        Raises:
            UsageError, DependencyMissing: see `Target.require`.
        """
        super().require(precisions, mixed)
        others = sorted(set(precisions.values()) - {"fp32", "fp16"})
        if self.options.as_maps and others:
            raise UsageError(f"`as_maps` is for fp32 and fp16, not for {', '.join(others)}")
        if self.options.multifunction and len(precisions) == 1:
            (tower,) = precisions
            raise UsageError(
                f"`multifunction` puts both towers into one asset; leave it out for the {tower} tower alone"
            )

    def require_searchable(self) -> None:
        super().require_searchable()
        if self.options.as_maps:
            raise UsageError("smallest searches among precisions with grids; `as_maps` is for fp32 and fp16")
        if self.options.multifunction:
            raise UsageError("smallest searches a precision for each tower; leave `multifunction` out")

    def advice(self, precisions: Precisions) -> str | None:
        from mobileclip_deploy.targets.coreai.storage import reported

        return reported(precisions)

    def runtime_version(self) -> str:
        return importlib.metadata.version("coreai-core")

    def storage(
        self, tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()
    ) -> Storage:
        from mobileclip_deploy.targets.coreai.storage import storage
        from mobileclip_deploy.targets.storage import with_table

        return with_table(module, precision, lambda name: storage(module, name, four_bit))

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{variant.name}_{artifact}.aimodel"

    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        if tower == "image" and self.options.image_entry:
            return TensorInfo("image", "uint8", (1, *variant.image_input_shape), (0.0, 255.0), "RGB")
        if tower == "image":
            return TensorInfo("image", "float32", (1, *variant.image_input_shape), (0.0, 1.0), "RGB")
        return TensorInfo("text", "int32", (1, variant.tokens.context_length))

    def output_info(self, variant: Variant, tower: TowerName, labels: int = 0) -> TensorInfo:
        if labels:
            return TensorInfo("probabilities", "float32", (1, labels))
        return TensorInfo("final_emb_1", "float32", (1, *variant.answer_shape), normalised=False)

    def input_types(self, tower: TowerName) -> tuple[str, ...]:
        return ("float32",) if tower == "image" else ("int32",)

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.coreai.authoring import Form, write_asset

        storage = self.storage(job.tower, job.module, job.precision, job.four_bit)
        form = Form(self.options.image_entry and job.tower == "image", self.options.as_maps)
        write_asset(job, path, storage, *self.port_names(job), form)
        return ()

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        if not self.options.multifunction:
            return super().place(folder, variant, files)
        from mobileclip_deploy.targets.coreai.multifunction import join

        name = f"{variant.name}.aimodel"
        join({tower: folder / file for tower, file in files.items()}, folder / name, variant)
        return {tower: Place(name, tower) for tower in files}

    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        from mobileclip_deploy.targets.coreai.inspection import describe

        return describe(path, self.function)

    def operators(self, path: Path) -> dict[str, int]:
        from mobileclip_deploy.targets.coreai.inspection import operators

        return operators(path, self.function)

    def inspect(self, path: Path) -> PackageInspection:
        from mobileclip_deploy.targets.coreai.inspection import inspect_asset

        return inspect_asset(path)

    def lint(self, path: Path, device: str) -> tuple[LintReport, ...]:
        from mobileclip_deploy.targets.coreai.linting import lint_asset

        return lint_asset(path, device, self.function)

    def graph(self, path: Path) -> Graph:
        from mobileclip_deploy.targets.coreai.reading import read_graph

        return read_graph(path, self.function)

    def weights(self, path: Path) -> tuple[StoredWeight, ...]:
        from mobileclip_deploy.targets.coreai.weights import read_weights

        return read_weights(path, self.function)

    def runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.coreai.runner import CoreAIRunner

        return CoreAIRunner(path, self.function, wide=True)

    def runners(self, path: Path) -> Iterator[Callable[[], Runner]]:
        """The program as written, with Apple's own float16 products."""
        from mobileclip_deploy.targets.coreai.runner import CoreAIRunner

        yield lambda: CoreAIRunner(path, self.function)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        """On a device by itself, on the CPU alone, and with each kind of unit preferred: nothing tells where it ran,
        and some choices are reported to answer wrongly, so each is asked for the golden answers."""
        from mobileclip_deploy.targets.benchmarking import ComputeUnits, RuntimePlace

        if device not in ("ios", "mac"):
            return super().places(device, options)
        if self.options.restored(options).image_entry:
            raise NotRun("the harness hands Core AI no pictures: measure the bundle without `image_entry`")
        units: tuple[ComputeUnits, ...] = ("default", "cpuOnly", "preferCPU", "preferGPU", "preferNeuralEngine")
        return tuple(RuntimePlace(self.name, compute_units=one) for one in units)

    def plain_runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.coreai.runner import CoreAIRunner

        return CoreAIRunner(path, self.function, plain=True)
