"""The Core AI target: names, input and output; conversion is in `authoring`, running in `runner`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import DependencyMissing, NotRun
from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.coreai.options import PACE, PLACES, CoreAIOptions, reported
from mobileclip_deploy.targets.coreai.storage import RULES
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Place, Ports, Precisions, RuntimePlace, TensorInfo, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check

WHERE = "coreai-core has wheels for Linux x86-64 (glibc 2.34 or newer) and macOS 26 on arm64, CPython 3.11 to 3.14"


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
            "multifunction": "smallest searches a precision for each tower; leave `multifunction` out",
        },
        ports=Ports(embedding="final_emb_1"),
        rules=RULES,
        places={"ios": PLACES, "mac": PLACES},
        runtime_package="coreai-core",
        runtime_modules=("coreai.runtime",),
        pace=PACE,
    )

    def require_installed(self, *, converters: bool = False) -> None:
        try:
            super().require_installed(converters=converters)
        except DependencyMissing as error:
            raise DependencyMissing(f"{error} ({WHERE})") from None

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """As any target, with its options."""
        super().require(precisions, mixed)
        self.options.require(precisions)

    def advice(self, precisions: Precisions) -> str | None:
        return reported(precisions)

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        pixels = "uint8" if self.options.image_entry else "float32"
        return replace(self.abilities.ports, pixels=pixels).of(variant, tower, labels)

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.coreai.authoring import write_asset
        from mobileclip_deploy.targets.rules import storage_of

        storage = storage_of(self, job.tower, job.module, job.precision, job.four_bit)
        picture = self.options.image_entry and job.tower == "image"
        source, result = self.ports(job.variant, job.tower, job.form)
        write_asset(job, path, storage, source.name, result.name, picture)
        return ()

    def place(self, folder: Path, variant: Variant, files: Mapping[TowerName, str]) -> dict[TowerName, Place]:
        if not self.options.multifunction:
            return super().place(folder, variant, files)
        from mobileclip_deploy.targets.coreai.authoring import join

        name = f"{variant.name}.aimodel"
        join({tower: folder / file for tower, file in files.items()}, folder / name, variant)
        return {tower: Place(name, tower) for tower in files}

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.coreai.opening import CoreAIArtifact

        return CoreAIArtifact(path, function)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        if device in self.abilities.places and self.options.restored(options).image_entry:
            raise NotRun("the harness hands Core AI no pictures: measure the bundle without `image_entry`")
        return super().places(device, options)
