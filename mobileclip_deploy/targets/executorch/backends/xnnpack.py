"""XNNPACK: float32 and int8 on the CPU of any phone; the wheel's own runtime runs it here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from mobileclip_deploy.targets.executorch.backends.base import Backend

if TYPE_CHECKING:
    from executorch.exir.backend.partitioner import Partitioner
    from torch import nn

    from mobileclip_deploy.model.variants import TowerName
    from mobileclip_deploy.targets.executorch.job import LoweringJob

__all__ = ["XnnpackBackend"]


class XnnpackBackend(Backend):
    name = "xnnpack"
    delegate = "XnnpackBackend"
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
        from mobileclip_deploy.targets.depthwise import split_large_depthwise
        from mobileclip_deploy.targets.executorch.authoring import authored
        from mobileclip_deploy.targets.executorch.doubling import split_doubling

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
