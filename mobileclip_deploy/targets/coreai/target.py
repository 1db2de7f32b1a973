"""The Core AI target: names, input and output; conversion is in `authoring`, running in `runner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError
from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Place, Precisions, TensorInfo, TowerJob, answer_of, ids_of, pixels_of

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.benchmarking import RuntimePlace
    from mobileclip_deploy.targets.rules import StorageRules

__all__ = ["CoreAITarget"]

WHERE = "coreai-core has wheels for Linux x86-64 (glibc 2.34 or newer) and macOS 26 on arm64, CPython 3.11 to 3.14"


@dataclass(frozen=True)
class CoreAIOptions(TargetOptions):
    """`multifunction` puts both towers into one asset, one function per tower. `image_entry`: the image tower takes a
    picture, 32-bit BGRA as a camera gives it, in place of float32 pixels. `as_maps`: linear layers are written as
    convolutions of 1 x 1 and sequences as maps of height 1, as Apple prefers them on the Neural Engine."""

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
    Options = CoreAIOptions
    options: CoreAIOptions
    abilities = Abilities(
        packages=("coreai_torch",),  # which is for one version of coreai-core
        extra="coreai",
        proven={"coreai-core": "1.0.0b3", "coreai-torch": "0.4.3"},
        suffixes=(".aimodel",),
        order=4,
        precisions=("fp32", "fp16", "w8", "w6p", "w4p", "w4"),
        tables=("w8", "w6p", "w4p", "w4"),
        mixes=True,
        learns_rounding=True,
        input_types={"image": ("float32",), "text": ("int32",)},
        no_pictures="its converter has no antialiased resizing, without which embeddings of photographs are other ones",
        no_contexts="what checks its programs here reads none of a free length, and what is not checked is not written",
        not_searched={
            "as_maps": "smallest searches among precisions with grids; `as_maps` is for fp32 and fp16",
            "multifunction": "smallest searches a precision for each tower; leave `multifunction` out",
        },
        runtime_package="coreai-core",
        runtime_modules=("coreai.runtime",),
    )

    def require_installed(self, *, converters: bool = False) -> None:
        try:
            super().require_installed(converters=converters)
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

    def advice(self, precisions: Precisions) -> str | None:
        from mobileclip_deploy.targets.coreai.storage import reported

        return reported(precisions)

    def rules(self, precision: str) -> StorageRules:
        from mobileclip_deploy.targets.coreai.storage import RULES

        return RULES

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{variant.name}_{artifact}.aimodel"

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        dtype = "uint8" if self.options.image_entry else "float32"
        source = pixels_of("image", variant, dtype) if tower == "image" else ids_of("text", variant)
        return source, answer_of("probabilities" if labels else "final_emb_1", variant, labels)

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.coreai.authoring import Form, write_asset
        from mobileclip_deploy.targets.rules import storage_of

        storage = storage_of(self, job.tower, job.module, job.precision, job.four_bit)
        form = Form(self.options.image_entry and job.tower == "image", self.options.as_maps)
        source, result = self.ports(job.variant, job.tower, job.form)
        write_asset(job, path, storage, source.name, result.name, form)
        return ()

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        if not self.options.multifunction:
            return super().place(folder, variant, files)
        from mobileclip_deploy.targets.coreai.multifunction import join

        name = f"{variant.name}.aimodel"
        join({tower: folder / file for tower, file in files.items()}, folder / name, variant)
        return {tower: Place(name, tower) for tower in files}

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.coreai.opening import CoreAIArtifact

        return CoreAIArtifact(path, function)

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
