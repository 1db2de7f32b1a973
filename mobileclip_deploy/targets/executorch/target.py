"""The ExecuTorch target: file names, input and output, and which backend a bundle is for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.bundle import TensorInfo
from mobileclip_deploy.bundle.manifest import Attachment
from mobileclip_deploy.errors import DependencyMissing, InvalidInput, UsageError
from mobileclip_deploy.model.variants import TowerName, Variant
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets.base import ExportOptions, Runner, Target, TowerJob
from mobileclip_deploy.targets.benchmarking import RuntimePlace, Session, SessionSetup
from mobileclip_deploy.targets.executorch.backends import get_backend
from mobileclip_deploy.targets.executorch.benchmarking import ExecuTorchSession, declared, places
from mobileclip_deploy.targets.executorch.etrecord import etrecord_path
from mobileclip_deploy.targets.executorch.program_file import TensorSpec, read_program

__all__ = ["ExecuTorchTarget"]

# A .pte does not name its tensors: clients set and get them by position.
INPUT, OUTPUT = "input_0", "output_0"


class ExecuTorchTarget(Target):
    name = "executorch"
    packages = ("executorch",)
    runtime_modules = ("torch", "executorch.extension.pybindings.portable_lib")
    foreign_suffix = ".pte"

    def __init__(self, backend: str = "xnnpack") -> None:
        self.backend = get_backend(backend)
        self.precisions = self.backend.precisions
        self.default_precision = self.precisions[0]

    @property
    def label(self) -> str:
        """`executorch` for XNNPACK, `executorch-<backend>` for others."""
        return self.name if self.backend.name == "xnnpack" else f"{self.name}-{self.backend.name}"

    def require(self, precisions: dict[TowerName, str], options: ExportOptions) -> None:
        """As any target, for its backend.

        Raises:
            UsageError: a precision that the backend lacks or refuses, with the reason.
            InvalidInput, DependencyMissing: see `Target.require`.
        """
        backend = self.backend
        for tower, precision in precisions.items():
            if (reason := backend.refused.get((tower, precision))) is not None:
                raise UsageError(f"{tower}={precision} is refused on {backend.name}: {reason}")
            if precision not in backend.precisions:
                known = ", ".join(backend.precisions)
                raise UsageError(f"executorch on {backend.name} has no precision {precision}; it has {known}")
        if options.dynamic_batch and "text" not in precisions:
            raise UsageError("--dynamic-batch is for prompts: the image tower takes one image; leave it out")
        if options.dynamic_batch and backend.static_shapes is not None:
            raise UsageError(f"--dynamic-batch is refused on {backend.name}: {backend.static_shapes}")
        super().require(precisions, options)
        for package in backend.packages:
            if importlib.util.find_spec(package) is None:
                raise DependencyMissing(f"backend {backend.name} needs {package}; type: pip install {package}")

    def has(self, precisions: dict[TowerName, str]) -> bool:
        return super().has(precisions) and not any(item in self.backend.refused for item in precisions.items())

    def settle(self, precisions: dict[TowerName, str], options: ExportOptions) -> ExportOptions:
        return replace(options, backend=self.backend.name)

    def artifact_name(self, variant: Variant, tower: TowerName, precision: str) -> str:
        return f"{variant.name}_{tower}.{self.backend.name}.pte"

    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        if tower == "image":
            return TensorInfo(INPUT, "float32", (1, *variant.image_input_shape), (0.0, 1.0), "RGB")
        return TensorInfo(INPUT, "int64", (1, variant.tokenizer.context_length))

    def output_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        return TensorInfo(OUTPUT, "float32", (1, variant.embed_dim), normalised=False)

    def takes_batches(self, tower: TowerName, options: ExportOptions) -> bool:
        return options.dynamic_batch and tower == "text"

    def classifier_name(self, variant: Variant, precision: str) -> str:
        return f"{variant.name}_classifier.{self.backend.name}.pte"

    def probabilities_info(self, labels: int) -> TensorInfo:
        return TensorInfo(OUTPUT, "float32", (1, labels))

    def export(self, job: TowerJob, path: Path) -> None:
        self.export_in_stages(job, path)

    def export_in_stages(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.executorch.pipeline import write_program

        return write_program(job, path)

    def stage_checks(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.executorch.pipeline import measure_stages

        return measure_stages(job, path)

    def attach(
        self,
        artifact: Path,
        inputs: npt.NDArray[np.generic],
        expected: npt.NDArray[np.float32],
        tolerance: float,
        options: ExportOptions,
    ) -> tuple[Attachment, ...]:
        attached = []
        if options.bundled_program:
            from mobileclip_deploy.targets.executorch.bundled_program import (
                check_bundled_program,
                write_bundled_program,
            )

            path = write_bundled_program(artifact, inputs, expected)
            if self.backend.runs_in_wheel:
                check_bundled_program(path, len(inputs), tolerance)
            attached.append(Attachment("bundled_program", path, tolerance))
        if options.etrecord:
            attached.append(Attachment("etrecord", etrecord_path(artifact)))
        return tuple(attached)

    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        program = read_program(path)
        if len(program.inputs) != 1 or len(program.outputs) != 1:
            counts = f"{len(program.inputs)} inputs and {len(program.outputs)} outputs"
            raise InvalidInput(f"{path}: {counts} instead of one each")
        return _info(INPUT, program.inputs[0]), _info(OUTPUT, program.outputs[0])

    def operators(self, path: Path) -> dict[str, int]:
        contents = read_program(path).contents()
        return {**contents["delegates"], **contents["operators_outside"]}

    def contents(self, path: Path) -> dict[str, dict[str, int]]:
        return read_program(path).contents()

    def runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.executorch.runner import load_runner

        return load_runner(path)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        return places(device, options)

    def session(self, path: Path, setup: SessionSetup) -> Session:
        return ExecuTorchSession(path, setup)

    def declared(self, path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        return declared(path)


def _info(name: str, spec: TensorSpec) -> TensorInfo:
    return TensorInfo(name, spec.dtype, spec.shape)
