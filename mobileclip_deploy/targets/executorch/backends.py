"""Backends that a tower can be lowered to: XNNPACK on any CPU, Core ML and Vulkan ahead of time. Also the options.

A backend defines its precisions, how a tower is rewritten for it, and the partitioner that selects its operators.
Backends that need more than the wheel contains are listed with the reason.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from mobileclip_deploy.errors import UsageError, suggestion
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.options import TargetOptions, option
from mobileclip_deploy.targets.rules import Shared, StorageRules
from mobileclip_deploy.targets.values import Ports, TowerJob
from mobileclip_deploy.targets.vendor_internals.coremltools import import_coremltools
from mobileclip_deploy.targets.vendor_internals.executorch import without_idle_passes

if TYPE_CHECKING:
    from executorch.exir.backend.partitioner import Partitioner
    from torch import nn

    from mobileclip_deploy.network.model.precision import Precision
    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.targets.storage import Layer

DEFAULT_BACKEND = "xnnpack"
DEFAULT_TARGET = "iOS16"

# Backends of ExecuTorch 1.5.1 that this toolkit does not export to, and their requirements besides the wheel. With
# these packages the wheel lowers to openvino, ethos-u and vgf; running openvino's program crashed here, and qnn's
# lowering stops at "unknown custom config socModel 0" with QAIRT 2.47 and 2.51.
UNAVAILABLE = {
    "qnn": "Qualcomm's AI Engine Direct SDK (QNN_SDK_ROOT), of the version that executorch was built for",
    "mediatek": "MediaTek's NeuroPilot SDK and its Python packages",
    "openvino": "the packages openvino and nncf",
    "ethos-u": "the packages ethos-u-vela and tosa-tools",
    "vgf": "the packages ai-ml-sdk-model-converter and tosa-tools",
}


class Backend(ABC):
    """A backend; its first precision is the default.

    Attributes:
        runs_in_wheel: True if the runtime in the executorch package has it, on every system.
        static_shapes: reason why a batch, or a length of ids, cannot be free; None if it can.
        tables, refused: as in `Capabilities`.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[str, ...]]
    tables: ClassVar[tuple[str, ...]] = ()
    runs_in_wheel: ClassVar[bool] = False
    static_shapes: ClassVar[str | None] = None
    refused: ClassVar[dict[tuple[TowerName, str], str]] = {}

    def authored(self, job: LoweringJob) -> nn.Module:
        """Returns the tower rewritten for this backend; unchanged by default."""
        return job.module

    def lowering(self) -> AbstractContextManager[None]:
        """Returns a context manager for the lowering of a tower; it does nothing by default."""
        return nullcontext()

    @abstractmethod
    def partitioner(self, job: LoweringJob) -> Partitioner:
        """Returns the partitioner, which decides which operators the backend takes."""


class XnnpackBackend(Backend):
    """Backend for float32 and int8 on the CPU of any phone; the wheel's own runtime runs it here."""

    name = DEFAULT_BACKEND
    precisions = ("fp32", "w8a8", "w8", "w4")
    tables = ("w6p",)  # looked up outside of the delegate, by kernels that take any integers
    runs_in_wheel = True
    refused: ClassVar[dict[tuple[TowerName, str], str]] = {
        **dict.fromkeys(
            (("image", "w8"), ("image", "w4")),
            "XNNPACK takes convolutions with int8 activations or in float32, and weight-only quantization "
            "(IntxWeightOnlyConfig) lowers without an error but gives wrong results (cosine -0.04); use image=w8a8",
        ),
        **dict.fromkeys(
            (("image", "fp16"), ("text", "fp16")),
            "GELU is not delegated, which makes the tower 2.5 times slower; use fp32, w8a8 or, for text, w8",
        ),
    }

    def authored(self, job: LoweringJob) -> nn.Module:
        from mobileclip_deploy.targets.executorch.authoring import authored, split_doubling, split_large_depthwise

        module = authored(job.module)
        if job.options.fast_depthwise:
            split_doubling(module)
            split_large_depthwise(module)
        return module

    def lowering(self) -> AbstractContextManager[None]:
        return without_idle_passes()

    def partitioner(self, job: LoweringJob) -> Partitioner:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        return XnnpackPartitioner()


class CoreMLBackend(Backend):
    """Backend that stores the whole tower as one ML program inside the .pte, for iOS and macOS; written on any
    system."""

    name = "coreml"
    packages = ("coremltools",)
    precisions = ("fp16", "fp32")
    static_shapes = "the Neural Engine takes fixed shapes only"

    def lowering(self) -> AbstractContextManager[None]:
        from mobileclip_deploy.targets.executorch.coreml_payload import reproducible_payloads

        return reproducible_payloads()

    def partitioner(self, job: LoweringJob) -> Partitioner:
        ct = import_coremltools()
        from executorch.backends.apple.coreml.compiler import CoreMLBackend as Compiler
        from executorch.backends.apple.coreml.partition import CoreMLPartitioner

        half = job.precision == "fp16"
        return CoreMLPartitioner(
            compile_specs=Compiler.generate_compile_specs(
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                minimum_deployment_target=getattr(ct.target, job.options.deployment_target or DEFAULT_TARGET),
            ),
            take_over_mutable_buffer=False,
        )


class VulkanBackend(Backend):
    """Backend for GPUs of Android phones; written on any system, run on the phone only."""

    name = "vulkan"
    precisions = ("fp16", "fp32")
    static_shapes = "Vulkan cannot run here, so neither end of the range could be checked"

    def partitioner(self, job: LoweringJob) -> Partitioner:
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

        return VulkanPartitioner({"force_fp16": True} if job.precision == "fp16" else {})


BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (XnnpackBackend(), CoreMLBackend(), VulkanBackend())
}


def get_backend(name: str) -> Backend:
    """Returns the backend with this name; case is ignored.

    Raises:
        UsageError: it is unknown, or needs an SDK; the text says which.
    """
    name = name.lower()
    if name in UNAVAILABLE:
        raise UsageError(
            f"backend {name} is not available: it needs {UNAVAILABLE[name]}; available: {', '.join(BACKENDS)}"
        )
    if name not in BACKENDS:
        close = suggestion(name, (*BACKENDS, *UNAVAILABLE))
        raise UsageError(f"unknown backend {name!r}{close}; known: {', '.join(BACKENDS)}")
    return BACKENDS[name]


# Size of the groups of inputs that share a scale at 4 bits. XNNPACK takes convolutions with int8 activations or in
# float32. It takes linear layers, the text tower's 1 x 1 convolutions among them, with activations measured at run time
# too. The other backends store floats only.
GROUP = 32


def _coarse(layer: Layer, tower: TowerName, precision: Precision) -> bool:
    """Returns whether a weight may have fewer than 8 bits.

    Products may as integers. The word table may as a palette, which packs four indices of six bits in three bytes.
    """
    return layer.inputs % 4 == 0 if precision.kind == "table" else not layer.is_table


def _floats(layer: Layer, tower: TowerName, precision: Precision) -> bool:
    if layer.is_table:
        return False
    if layer.is_product(tower):
        return precision.bits == 4 and not layer.is_projection and layer.inputs % GROUP != 0
    return not precision.calibrated or (tower == "image" and stays_float(layer.name, layer.is_depthwise))


PORTS = Ports("input_0", "input_0", "output_0", "output_0", ids="int64", named=False)

RULES = StorageRules(
    eight=integers(8, scale_bytes=4),
    four=Shared(integers(4, scale_bytes=4), (GROUP,)),
    table=Shared(Grid(6, "table")),
    coarse=_coarse,
    floats=_floats,
    small=True,
)


def stays_float(name: str, depthwise: bool) -> bool:
    """Returns whether a convolution of an image tower computes in float32 at `w8a8`.

    These are the convolutions where int8 activations cost most and gain nothing. Depthwise convolutions have a range
    per channel but share one scale. The stem and the downsampling are in no residual branch. nano's image tower then
    has 30 dB, and takes 0.71 of its float32 time; with all of it in int8 it had 18 dB, and took 0.81. The first
    convolution of squeeze-and-excite stays in float with the ReLU after it, which is not a product.

    Args:
        name: name of the layer in the encoder.
    """
    return depthwise or name.startswith("stem.") or ".downsample." in name or name.endswith(".se.fc1")


@dataclass(frozen=True)
class ExecuTorchOptions(TargetOptions):
    """Options of the ExecuTorch target.

    Attributes:
        backend: one name, or several with commas, one bundle per name.
        deployment_target: of the Core ML package inside a .pte for that backend.
        fast_depthwise: see depthwise.py.
        dynamic_batch: True if the text tower takes several prompts at a time.
        model_schema: see model_schema.py.
    """

    deployment_target: str | None = option(
        "--deployment-target", "Oldest system to support, for backend coreml. [default: iOS16]", metavar="iOSNN"
    )
    backend: str | None = option(
        "--backend",
        "Backend to delegate to: xnnpack, coreml or vulkan. [default: xnnpack]",
        metavar="B[,B...]",
        names=BACKENDS,
    )
    fast_depthwise: bool = option(
        "--no-fast-depthwise", "Do not split 7 x 7 convolutions (slow on XNNPACK).", default=True
    )
    dynamic_batch: bool = option("--dynamic-batch", "Let the text tower take 1 to 64 prompts at a time.", default=False)
    model_schema: bool = option(
        "--model-schema", "Describe inputs and outputs in each .pte, for react-native-executorch.", default=False
    )

    @property
    def backends(self) -> list[str]:
        """Names of the chosen backends, without repetition, in the order named."""
        named = (self.backend or DEFAULT_BACKEND).split(",")
        return list(dict.fromkeys(get_backend(part.strip()).name for part in named))

    @property
    def variation(self) -> str | None:
        return None if self.backends[0] == DEFAULT_BACKEND else self.backends[0]

    def variations(self) -> tuple[Self, ...]:
        return (self,) if len(self.backends) == 1 else tuple(replace(self, backend=name) for name in self.backends)

    def varied(self, name: str) -> Self:
        return replace(self, backend=get_backend(name).name)

    def uses(self, option: str) -> bool:
        owner = {"deployment_target": "coreml", "fast_depthwise": "xnnpack"}.get(option)
        return owner is None or owner == self.backends[0]


@dataclass(frozen=True)
class FreeShape:
    """Free part of a tower's input: its `batch`, or the length of ids from `shortest` to the example's."""

    batch: bool = False
    shortest: int | None = None


@dataclass(frozen=True)
class LoweringJob(TowerJob):
    """A tower's job with ExecuTorch's options."""

    options: ExecuTorchOptions = field(kw_only=True)

    @property
    def free(self) -> FreeShape:
        """Free dimensions of a text tower that takes several prompts at a time, or several lengths of ids. Other towers
        have none."""
        batch = self.options.dynamic_batch and self.tower == "text"
        return FreeShape(batch, self.form.contexts[0] if self.form.contexts else None)
