"""XNNPACK: float32 and int8 on the CPU of any phone; the wheel's own runtime runs it here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from mobileclip_deploy.targets.base import TowerJob
from mobileclip_deploy.targets.executorch.backends.base import Backend

if TYPE_CHECKING:
    from executorch.exir.backend.partitioner import Partitioner

__all__ = ["XnnpackBackend"]


class XnnpackBackend(Backend):
    name = "xnnpack"
    delegate = "XnnpackBackend"
    precisions = ("fp32", "w8a8", "w8", "w4")

    def authored(self, job: TowerJob) -> nn.Module:
        from mobileclip_deploy.targets.executorch.authoring import authored
        from mobileclip_deploy.targets.executorch.depthwise import split_large_depthwise

        module = authored(job.module)
        if job.options.fast_depthwise:
            split_large_depthwise(module)
        return module

    def partitioner(self, job: TowerJob) -> Partitioner:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        return XnnpackPartitioner()
