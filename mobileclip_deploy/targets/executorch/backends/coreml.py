"""Core ML: the whole tower as one ML program inside the .pte, for iOS and macOS; written on any system."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from mobileclip_deploy.targets.executorch.backends.base import Backend
from mobileclip_deploy.targets.mlpackage import import_coremltools

if TYPE_CHECKING:
    from executorch.exir.backend.partitioner import Partitioner

    from mobileclip_deploy.targets.executorch.job import LoweringJob

__all__ = ["CoreMLBackend"]

DEFAULT_TARGET = "iOS16"


class CoreMLBackend(Backend):
    name = "coreml"
    delegate = "CoreMLBackend"
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
