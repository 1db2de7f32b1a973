"""Vulkan: GPUs of Android phones; written on any system, run on the phone only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.targets.executorch.backends.base import Backend

if TYPE_CHECKING:
    from executorch.exir.backend.partitioner import Partitioner

    from mobileclip_deploy.targets.executorch.job import LoweringJob

__all__ = ["VulkanBackend"]


class VulkanBackend(Backend):
    name = "vulkan"
    delegate = "VulkanBackend"
    precisions = ("fp16", "fp32")
    static_shapes = "nothing here can run Vulkan, so that neither end of the range could be checked"

    def partitioner(self, job: LoweringJob) -> Partitioner:
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

        return VulkanPartitioner({"force_fp16": True} if job.precision == "fp16" else {})
