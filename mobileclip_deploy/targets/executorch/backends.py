"""Backends that a tower can be lowered to: XNNPACK on any CPU, Core ML and Vulkan ahead of time; and those that need
more than the wheel holds.

A backend says which precisions it has, how a tower is written for it, and which partitioner takes it.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ClassVar

from mobileclip_deploy.errors import DependencyMissing, UsageError, suggestion
from mobileclip_deploy.targets.abilities import Abilities
from mobileclip_deploy.targets.executorch.storage import RULES
from mobileclip_deploy.targets.mlpackage import import_coremltools
from mobileclip_deploy.targets.values import Ports, Precisions, RuntimePlace

if TYPE_CHECKING:
    from executorch.exir.backend.partitioner import Partitioner
    from torch import nn

    from mobileclip_deploy.model.variants import TowerName
    from mobileclip_deploy.targets.executorch.options import LoweringJob

DEFAULT_BACKEND = "xnnpack"
DEFAULT_TARGET = "iOS16"
# A .pte does not name its tensors: clients set and get them by position.
PORTS = Ports("input_0", "input_0", "output_0", "output_0", ids="int64")

# Backends of ExecuTorch 1.5.1 that this toolkit does not export to, and what each needs beside the wheel. With these
# packages the wheel lowers to openvino, ethos-u and vgf; running openvino's program crashed here, and qnn's lowering
# stops at "unknown custom config socModel 0" with QAIRT 2.47 and 2.51.
UNAVAILABLE = {
    "qnn": "Qualcomm's AI Engine Direct SDK (QNN_SDK_ROOT), of the version that executorch was built for",
    "mediatek": "MediaTek's NeuroPilot SDK and its Python packages",
    "openvino": "the packages openvino and nncf",
    "ethos-u": "the packages ethos-u-vela and tosa-tools",
    "vgf": "the packages ai-ml-sdk-model-converter and tosa-tools",
}


class Backend(ABC):
    """One backend; its first precision is the default.

    `runs_in_wheel`: the runtime that comes with the executorch package has it, on every system. `static_shapes`: why a
    batch cannot be left free; None where it can. `tables`: as `Abilities.tables`. `refused`: what it could write, or
    seem to, and should not; by tower and precision, with the reason.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[str, ...]]
    tables: ClassVar[tuple[str, ...]] = ()
    runs_in_wheel: ClassVar[bool] = False
    static_shapes: ClassVar[str | None] = None
    refused: ClassVar[dict[tuple[TowerName, str], str]] = {}

    def authored(self, job: LoweringJob) -> nn.Module:
        """The tower as this backend wants it written; as it is by default."""
        return job.module

    def lowering(self) -> AbstractContextManager[None]:
        """What has to hold while a tower is lowered; nothing by default."""
        return nullcontext()

    def require(self, precisions: Precisions, dynamic_batch: bool) -> None:
        """Refuse what the backend cannot do.

        Raises:
            UsageError: a precision that it refuses, with the reason, or lacks, or a free batch.
        """
        for tower, precision in precisions.items():
            if (reason := self.refused.get((tower, precision))) is not None:
                raise UsageError(f"{tower}={precision} is refused on {self.name}: {reason}")
            if not self.abilities.has(tower, precision):
                raise UsageError(self.abilities.lacking(f"executorch on {self.name}", precision))
        if dynamic_batch and "text" not in precisions:
            raise UsageError("`dynamic_batch` is for prompts: the image tower takes one image; leave it out")
        if dynamic_batch and self.static_shapes is not None:
            raise UsageError(f"`dynamic_batch` is refused on {self.name}: {self.static_shapes}")

    def require_installed(self) -> None:
        """Refuse to write for the backend without its packages.

        Raises:
            DependencyMissing: the text holds the pip line.
        """
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise DependencyMissing(f"backend {self.name} needs {package}; type: pip install {package}")

    @property
    def abilities(self) -> Abilities:
        """Those of ExecuTorch on this backend."""
        return Abilities(
            packages=("executorch",),
            extra="executorch",
            proven={"executorch": "1.5.1", "torchao": "0.18.0"},
            unavailable=UNAVAILABLE,
            suffixes=(".pte",),
            foreign_suffix=".pte",
            order=3,
            precisions=self.precisions,
            default_precision=self.precisions[0],
            tables=self.tables,
            recoverable=True,
            absorbs_layer_scales=True,
            stages=True,
            named_tensors=False,
            no_pictures="its backends are given fixed shapes, and none has antialiased resizing; resize in the app",
            no_contexts=None,
            ports=PORTS,
            rules=RULES,
            places=dict.fromkeys(("host", "android"), (RuntimePlace("executorch", DEFAULT_BACKEND),)),
            runtime_modules=("mobileclip_deploy.targets.executorch.bindings",),
        )

    @abstractmethod
    def partitioner(self, job: LoweringJob) -> Partitioner:
        """What decides which operators the backend takes."""


class XnnpackBackend(Backend):
    """float32 and int8 on the CPU of any phone; the wheel's own runtime runs it here."""

    name = DEFAULT_BACKEND
    precisions = ("fp32", "w8a8", "w8", "w4")
    tables = ("w6p",)  # which is looked up outside of the delegate, by kernels that take any integers
    runs_in_wheel = True
    refused: ClassVar[dict[tuple[TowerName, str], str]] = {
        **dict.fromkeys(
            (("image", "w8"), ("image", "w4")),
            "XNNPACK takes convolutions with int8 activations or in float32, and weight-only quantization "
            "(IntxWeightOnlyConfig) lowers without an error and answers wrongly (cosine -0.04); use image=w8a8",
        ),
        **dict.fromkeys(
            (("image", "fp16"), ("text", "fp16")),
            "GELU falls out of the delegate, which makes the tower 2.5 times slower; use fp32, w8a8 or, for text, w8",
        ),
    }

    def authored(self, job: LoweringJob) -> nn.Module:
        from mobileclip_deploy.targets.executorch.authoring import authored
        from mobileclip_deploy.targets.executorch.depthwise import split_doubling, split_large_depthwise

        module = authored(job.module)
        if job.options.fast_depthwise:
            split_doubling(module)
            split_large_depthwise(module)
        return module

    def lowering(self) -> AbstractContextManager[None]:
        from mobileclip_deploy.targets.foreign.executorch import without_idle_passes

        return without_idle_passes()

    def partitioner(self, job: LoweringJob) -> Partitioner:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        return XnnpackPartitioner()


class CoreMLBackend(Backend):
    """The whole tower as one ML program inside the .pte, for iOS and macOS; written on any system."""

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
    """GPUs of Android phones; written on any system, run on the phone only."""

    name = "vulkan"
    precisions = ("fp16", "fp32")
    static_shapes = "nothing here can run Vulkan, so that neither end of the range could be checked"

    def partitioner(self, job: LoweringJob) -> Partitioner:
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

        return VulkanPartitioner({"force_fp16": True} if job.precision == "fp16" else {})


BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (XnnpackBackend(), CoreMLBackend(), VulkanBackend())
}


def get_backend(name: str) -> Backend:
    """The backend called `name`, in any capitals.

    Raises:
        UsageError: unknown, or it needs an SDK; the text says which.
    """
    name = name.lower()
    if name in UNAVAILABLE:
        raise UsageError(f"backend {name} is not offered: it needs {UNAVAILABLE[name]}; here are {', '.join(BACKENDS)}")
    if name not in BACKENDS:
        close = suggestion(name, (*BACKENDS, *UNAVAILABLE))
        raise UsageError(f"unknown backend {name!r}{close}; known: {', '.join(BACKENDS)}")
    return BACKENDS[name]


def parse_backends(text: str) -> list[str]:
    """`xnnpack,coreml` -> names, each once, in the order named.

    Raises:
        UsageError: see `get_backend`.
    """
    return list(dict.fromkeys(get_backend(part.strip()).name for part in text.split(",")))
