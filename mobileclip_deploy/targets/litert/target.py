"""The LiteRT target: names, input and output; `authoring` converts, `runner` runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.capabilities import Capabilities, Formats, Packages, Places, Storing
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.rules import Shared, StorageRules, storage_of
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Ports, RuntimePlace, TensorInfo, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.foreign_file import ForeignFile

CPU = RuntimePlace("litert", "cpu")

RULES = StorageRules(
    # A scale of four bytes, and a zero point of eight, which every runtime requires although it is 0.
    eight=integers(8, scale_bytes=12),
    # Blocks of XNNPACK's kernels. A block's scale is searched; the range reaches one step further at its lower end.
    four=Shared(Grid(4, "integers", low=-8, high=7, scale_bytes=2, positive=True, bfloat16=True), (32,)),
    # Convolutions have kernels for 8 bits only. Layers on the main path keep 8 bits everywhere.
    coarse=lambda layer, tower, precision: layer.is_linear and not layer.is_on_main_path,
    # XNNPACK has no kernel for depthwise integers with float activations, and LiteRT's own takes five times as long as
    # XNNPACK's in float32. With measured ranges there is one, but depthwise channels have different ranges, and all
    # would share one scale.
    floats=lambda layer, tower, precision: layer.is_grouped,
    float_bits=16,
    all_halves=False,
)


@dataclass(frozen=True)
class LiteRTOptions(TargetOptions):
    """Options of the LiteRT target."""

    nhwc_bytes: bool = option(
        "--nhwc-bytes",
        "Let the image tower take a bitmap's bytes, uint8 [1, S, S, 3], instead of floats [1, 3, S, S].",
        default=False,
    )


class LiteRTTarget(Target):
    name = "litert"
    title = "LiteRT"
    Options = LiteRTOptions
    options: LiteRTOptions
    capabilities = Capabilities(
        packages=Packages(
            required=("ai_edge_litert",),
            extra="litert-run",
            converters=("litert_torch",),
            converter_extra="litert",
            proven={"ai-edge-litert": "2.3.0", "litert-torch": "0.10.0", "litert-converter": "0.5.0"},
            runtime_modules=("ai_edge_litert.interpreter",),
            runtime_packages={"litert": "ai_edge_litert"},
        ),
        formats=Formats(
            suffixes=(".tflite",),
            foreign_suffix=".tflite",
            order=5,
            refused_options={
                "dynamic_batch": "litert-torch 0.10.0 cannot convert a text tower whose first dimension is free; leave "
                "it out, and embed prompts one by one"
            },
        ),
        ports=Ports(
            why_no_pictures="its resizing has no antialiasing, and its converter supports no free height and width",
            why_no_contexts="litert-torch 0.10.0 cannot convert a text tower whose second dimension is free",
        ),
        storing=Storing(
            precisions=("fp32", "fp16", "w8", "w8a8", "w4"),
            mixes=True,
            learns_rounding=True,
            absorbs_layer_scales=True,
            absorbs_norms=True,
            rules=RULES,
        ),
        places=Places(
            by_device={"host": (CPU,), "android": (CPU, RuntimePlace("litert", "gpu", arithmetic="fp16"))},
            compiled=("gpu",),
        ),
    )

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        source, result = super().tensors(variant, tower, labels)
        if self.options.nhwc_bytes and tower == "image":
            batch, colours, height, width = source.shape
            shape = (batch, height, width, colours)
            source = replace(source, dtype="uint8", shape=shape, range=(0.0, 255.0))
        return source, result

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.litert.authoring import write_model

        storage = storage_of(self, job.tower, job.module, job.precision, job.four_bit)
        source, result = self.ports(job.variant, job.tower, job.form)
        write_model(job, path, storage, source, result)
        return ()

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.litert.opening import LiteRTArtifact

        return LiteRTArtifact(path, function)

    def open_foreign(self, path: Path) -> ForeignFile:
        from mobileclip_deploy.targets.litert.foreign import open_foreign

        return open_foreign(path)
