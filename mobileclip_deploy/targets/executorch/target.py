"""The ExecuTorch target: file names, input and output, and a bundle's backend."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError
from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.capabilities import Capabilities, Formats, Packages, Places, Storing
from mobileclip_deploy.targets.executorch.backends import (
    DEFAULT_BACKEND,
    PORTS,
    RULES,
    UNAVAILABLE,
    ExecuTorchOptions,
    LoweringJob,
    get_backend,
)
from mobileclip_deploy.targets.options import TargetOptions
from mobileclip_deploy.targets.target import Target
from mobileclip_deploy.targets.values import Form, Precisions, RuntimePlace, TensorInfo, TowerJob

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.foreign_file import ForeignFile


class ExecuTorchTarget(Target):
    name = "executorch"
    title = "ExecuTorch"
    Options = ExecuTorchOptions
    options: ExecuTorchOptions

    def __init__(self, options: TargetOptions | None = None) -> None:
        super().__init__(options)
        self.backend = get_backend(self.options.backends[0])
        self.capabilities = Capabilities(
            packages=Packages(
                required=("executorch",),
                extra="executorch",
                proven={"executorch": "1.5.1", "torchao": "0.18.0"},
                runtime_modules=("mobileclip_deploy.targets.executorch.bindings",),
            ),
            formats=Formats((".pte",), foreign_suffix=".pte", order=3, stages=True, unavailable=UNAVAILABLE),
            ports=replace(
                PORTS,
                why_no_pictures="its backends need fixed shapes and have no antialiased resizing; resize in the app",
                why_no_contexts=self.backend.static_shapes,
            ),
            storing=Storing(
                precisions=self.backend.precisions,
                default_precision=self.backend.precisions[0],
                tables=self.backend.tables,
                refused=self.backend.refused,
                learns_rounding=True,
                absorbs_layer_scales=True,
                rules=RULES,
            ),
            places=Places(dict.fromkeys(("host", "android"), (RuntimePlace("executorch", DEFAULT_BACKEND),))),
        )

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """Checks as any target does, and refuses an unsupported free batch, or a backend whose packages are missing."""
        backend, dynamic = self.backend, self.options.dynamic_batch
        if dynamic and "text" not in precisions:
            raise UsageError("`dynamic_batch` is for prompts: the image tower takes one image; leave it out")
        if dynamic and backend.static_shapes is not None:
            raise UsageError(f"`dynamic_batch` is not supported on {backend.name}: {backend.static_shapes}")
        super().require(precisions, mixed)
        for package in backend.packages:
            if importlib.util.find_spec(package) is None:
                raise DependencyMissing(f"backend {backend.name} needs {package}; type: pip install {package}")

    def settled(self, precisions: Precisions) -> ExecuTorchTarget:
        # A deployment target is for the package inside a Core ML .pte; elsewhere it would be recorded without effect.
        deployment_target = self.options.deployment_target if self.backend.name == "coreml" else None
        return ExecuTorchTarget(replace(self.options, backend=self.backend.name, deployment_target=deployment_target))

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{variant.name}_{artifact}.{self.backend.name}.pte"

    def tensors(self, variant: Variant, tower: TowerName, labels: int = 0) -> tuple[TensorInfo, TensorInfo]:
        batch = 0 if self.options.dynamic_batch and tower == "text" else 1
        return replace(self.capabilities.ports, batch=batch).of(variant, tower, labels)

    def require_form(self, form: Form) -> None:
        super().require_form(form)
        if form.contexts and self.options.dynamic_batch:
            raise UsageError("`contexts` is for single prompts; leave `dynamic_batch` out, or `contexts`")

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.executorch.pipeline import write_program

        return write_program(LoweringJob(**vars(job), options=self.options), self.backend, path)

    def stage_checks(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.executorch.pipeline import measure_stages

        return measure_stages(LoweringJob(**vars(job), options=self.options), self.backend, path)

    def open(self, path: Path, function: str | None = None) -> Artifact:
        from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact

        return ExecuTorchArtifact(path, function, readable=self.backend.name == DEFAULT_BACKEND)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        backend = options.get("backend", DEFAULT_BACKEND)
        if device in self.capabilities.places.by_device and backend != DEFAULT_BACKEND:
            where = "runs on this host" if device == "host" else "is in the Android harness"
            raise NotRun(f"of ExecuTorch only xnnpack {where}, not {backend}")
        return super().places(device, options)

    def open_foreign(self, path: Path) -> ForeignFile:
        from mobileclip_deploy.targets.executorch.foreign import open_foreign

        return open_foreign(path)
