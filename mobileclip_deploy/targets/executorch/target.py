"""The ExecuTorch target: file names, input and output, and which backend a bundle is for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mobileclip_deploy.errors import DependencyMissing, InvalidInput, UsageError
from mobileclip_deploy.targets.base import Target
from mobileclip_deploy.targets.executorch.backends import DEFAULT_BACKEND, UNAVAILABLE, get_backend, parse_backends
from mobileclip_deploy.targets.executorch.options import ExecuTorchOptions
from mobileclip_deploy.targets.options import TargetOptions
from mobileclip_deploy.targets.values import Attachment, Precisions, Runner, TensorInfo, TowerJob

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from mobileclip_deploy.model.variants import TowerName, Variant
    from mobileclip_deploy.parity import Check
    from mobileclip_deploy.targets.benchmarking import RuntimePlace, Session, SessionSetup
    from mobileclip_deploy.targets.executorch.job import LoweringJob
    from mobileclip_deploy.targets.executorch.program_file import TensorSpec
    from mobileclip_deploy.targets.graph import Graph
    from mobileclip_deploy.targets.grids.decode import StoredWeight
    from mobileclip_deploy.targets.storage import Storage

__all__ = ["ExecuTorchTarget"]

# A .pte does not name its tensors: clients set and get them by position.
INPUT, OUTPUT = "input_0", "output_0"


class ExecuTorchTarget(Target):
    name = "executorch"
    title = "ExecuTorch"
    packages = ("executorch",)
    proven: ClassVar[Mapping[str, str]] = {"executorch": "1.5.1", "torchao": "0.18.0"}
    extra = "executorch"
    unavailable: ClassVar[Mapping[str, str]] = UNAVAILABLE
    suffixes = (".pte",)
    order = 3
    foreign_suffix = ".pte"
    recoverable = absorbs_layer_scales = True
    # Layer scales stay where they are: XNNPACK's weights have a smallest scale (2^-12, torchao's
    # `get_symmetric_quantization_config`), below which weights that small would fall.
    named_tensors = False
    no_pictures = "its backends are given fixed shapes, and none has antialiased resizing; resize in the app"
    Options = ExecuTorchOptions
    options: ExecuTorchOptions

    def __init__(self, options: TargetOptions | None = None) -> None:
        super().__init__(options)
        self.backends = parse_backends(self.options.backend or DEFAULT_BACKEND)
        self.backend = get_backend(self.backends[0])
        self.precisions, self.tables = self.backend.precisions, self.backend.tables
        self.default_precision = self.precisions[0]

    @property
    def label(self) -> str:
        """`executorch` for XNNPACK, `executorch-<backend>` for others."""
        return self.name if self.backend.name == DEFAULT_BACKEND else f"{self.name}-{self.backend.name}"

    def variation(self, name: str) -> ExecuTorchTarget:
        return ExecuTorchTarget(replace(self.options, backend=get_backend(name).name))

    def variations(self) -> tuple[Target, ...]:
        return (self,) if len(self.backends) == 1 else tuple(self.variation(name) for name in self.backends)

    def uses(self, option: str) -> bool:
        backend = {"deployment_target": "coreml", "fast_depthwise": "xnnpack"}.get(option)
        return backend in (None, self.backend.name)

    def require(self, precisions: Precisions, mixed: bool = False) -> None:
        """As any target, for its backend.

        Raises:
            UsageError: a precision that the backend lacks or refuses, with the reason.
            DependencyMissing: see `Target.require`.
        """
        backend, dynamic_batch = self.backend, self.options.dynamic_batch
        for tower, precision in precisions.items():
            if (reason := backend.refused.get((tower, precision))) is not None:
                raise UsageError(f"{tower}={precision} is refused on {backend.name}: {reason}")
            if not self._has(tower, precision):
                raise self._lacking(f"executorch on {backend.name}", precision, backend.precisions)
        if dynamic_batch and "text" not in precisions:
            raise UsageError("`dynamic_batch` is for prompts: the image tower takes one image; leave it out")
        if dynamic_batch and backend.static_shapes is not None:
            raise UsageError(f"`dynamic_batch` is refused on {backend.name}: {backend.static_shapes}")
        super().require(precisions, mixed)
        for package in backend.packages:
            if importlib.util.find_spec(package) is None:
                raise DependencyMissing(f"backend {backend.name} needs {package}; type: pip install {package}")

    def has(self, precisions: Precisions) -> bool:
        return super().has(precisions) and not any(item in self.backend.refused for item in precisions.items())

    def settled(self, precisions: Precisions) -> ExecuTorchTarget:
        # A deployment target is for the package inside a Core ML .pte; elsewhere it would only be written down.
        kept = self.options.deployment_target if self.backend.name == "coreml" else None
        return ExecuTorchTarget(replace(self.options, backend=self.backend.name, deployment_target=kept))

    def storage(
        self, tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()
    ) -> Storage:
        from mobileclip_deploy.targets.executorch.storage import storage

        return storage(tower, module, precision)

    def artifact_name(self, variant: Variant, artifact: str, precision: str) -> str:
        return f"{variant.name}_{artifact}.{self.backend.name}.pte"

    def input_info(self, variant: Variant, tower: TowerName) -> TensorInfo:
        if tower == "image":
            return TensorInfo(INPUT, "float32", (1, *variant.image_input_shape), (0.0, 1.0), "RGB")
        return TensorInfo(INPUT, "int64", (1, variant.tokens.context_length))

    def output_info(self, variant: Variant, tower: TowerName, labels: int = 0) -> TensorInfo:
        if labels:
            return TensorInfo(OUTPUT, "float32", (1, labels))
        return TensorInfo(OUTPUT, "float32", (1, *variant.answer_shape), normalised=False)

    def require_contexts(self) -> None:
        """It can where the backend's shapes need not be fixed.

        Raises:
            UsageError: they need be, or prompts come in batches.
        """
        if self.backend.static_shapes is not None:
            raise UsageError(f"`contexts` is refused on {self.backend.name}: {self.backend.static_shapes}")
        if self.options.dynamic_batch:
            raise UsageError("`contexts` is for prompts one by one; leave `dynamic_batch` out, or `contexts`")

    def takes_batches(self, tower: TowerName) -> bool:
        return self.options.dynamic_batch and tower == "text"

    def write(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.executorch.pipeline import write_program

        return write_program(self._lowering(job), path)

    def stage_checks(self, job: TowerJob, path: Path) -> tuple[Check, ...]:
        from mobileclip_deploy.targets.executorch.pipeline import measure_stages

        return measure_stages(self._lowering(job), path)

    def _lowering(self, job: TowerJob) -> LoweringJob:
        from mobileclip_deploy.targets.executorch.job import LoweringJob

        return LoweringJob(**vars(job), options=self.options)

    def attach(
        self,
        artifact: Path,
        inputs: npt.NDArray[np.generic],
        expected: npt.NDArray[np.float32],
        tolerance: float,
    ) -> tuple[Attachment, ...]:
        attached = []
        if self.options.bundled_program:
            from mobileclip_deploy.targets.executorch.bundled_program import (
                check_bundled_program,
                write_bundled_program,
            )

            path = write_bundled_program(artifact, inputs, expected)
            if self.backend.runs_in_wheel:
                check_bundled_program(path, len(inputs), tolerance)
            attached.append(Attachment("bundled_program", path, tolerance))
        if self.options.etrecord:
            from mobileclip_deploy.targets.executorch.lowering import etrecord_path

            attached.append(Attachment("etrecord", etrecord_path(artifact)))
        return tuple(attached)

    def describe(self, path: Path) -> tuple[TensorInfo, TensorInfo]:
        from mobileclip_deploy.targets.executorch.program_file import read_program

        program = read_program(path)
        if len(program.inputs) != 1 or len(program.outputs) != 1:
            counts = f"{len(program.inputs)} inputs and {len(program.outputs)} outputs"
            raise InvalidInput(f"{path}: {counts} instead of one each")
        return _info(INPUT, program.inputs[0]), _info(OUTPUT, program.outputs[0])

    def operators(self, path: Path) -> dict[str, int]:
        contents = self.contents(path)
        return {**contents["delegates"], **contents["operators_outside"]}

    def contents(self, path: Path) -> dict[str, dict[str, int]]:
        from mobileclip_deploy.targets.executorch.program_file import read_program

        return read_program(path).contents()

    def graph(self, path: Path) -> Graph:
        from mobileclip_deploy.targets.executorch.reading import read_graph

        return read_graph(path)

    def weights(self, path: Path) -> tuple[StoredWeight, ...] | None:
        from mobileclip_deploy.targets.executorch.weights import read_weights

        # Of the other backends' parts none is read.
        return read_weights(path) if self.backend.name == DEFAULT_BACKEND else None

    def runner(self, path: Path) -> Runner:
        from mobileclip_deploy.targets.executorch.runner import load_runner

        return load_runner(path)

    def places(self, device: str, options: Mapping[str, str]) -> tuple[RuntimePlace, ...]:
        from mobileclip_deploy.targets.executorch.benchmarking import places

        return places(device, options)

    def import_runtime(self) -> None:
        from mobileclip_deploy.targets.executorch.runner import import_runtime

        import_runtime()

    def session(self, path: Path, setup: SessionSetup) -> Session:
        from mobileclip_deploy.targets.executorch.benchmarking import ExecuTorchSession

        return ExecuTorchSession(path, setup)

    def declared(self, path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        from mobileclip_deploy.targets.executorch.benchmarking import declared

        return declared(path)


def _info(name: str, spec: TensorSpec) -> TensorInfo:
    return TensorInfo(name, spec.dtype, spec.shape)
