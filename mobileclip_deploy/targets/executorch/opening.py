"""A .pte opened: what goes in and comes out of it, its graph and weights, and what runs it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mobileclip_deploy.targets.artifact import Artifact
from mobileclip_deploy.targets.executorch.program_file import ProgramFile, TensorSpec, read_program
from mobileclip_deploy.targets.executorch.reading import read_graph
from mobileclip_deploy.targets.graph import Graph
from mobileclip_deploy.targets.values import Runner, TensorInfo
from mobileclip_deploy.targets.weights import read_weights

if TYPE_CHECKING:
    from mobileclip_deploy.targets.benchmarking import Session, SessionSetup
    from mobileclip_deploy.targets.grids.decode import StoredWeight

__all__ = ["ExecuTorchArtifact"]


class ExecuTorchArtifact(Artifact):
    """A .pte file with the one method `forward`.

    Args:
        readable: whether weights are looked for; they are in XNNPACK's parts and in kernels, not in other backends'.
    """

    def __init__(self, path: Path, readable: bool) -> None:
        super().__init__(path)
        self._readable = readable

    @cached_property
    def file(self) -> ProgramFile:
        """What stands in it."""
        return read_program(self.path)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(f"input_{place}", spec) for place, spec in enumerate(self.file.inputs))

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return tuple(_info(f"output_{place}", spec) for place, spec in enumerate(self.file.outputs))

    @property
    def operators(self) -> dict[str, int]:
        """Counts of delegates by backend, and of the operators outside of them. A delegate counts as one."""
        return {**self.contents["delegates"], **self.contents["operators_outside"]}

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        return self.file.contents()

    @cached_property
    def graph(self) -> Graph:
        return read_graph(self.path)

    @cached_property
    def weights(self) -> tuple[StoredWeight, ...] | None:
        from mobileclip_deploy.targets.executorch.weights import TABLE

        return read_weights(self.graph, TABLE, self.path) if self._readable else None

    def runner(self) -> Runner:
        """By the backends it needs: Core ML's part by this package's evaluator, the others in the wheel's runtime."""
        from mobileclip_deploy.targets.executorch.coreml_payload import CoreMLPayloadRunner
        from mobileclip_deploy.targets.executorch.runner import RuntimeRunner

        if self.file.backends == ("CoreMLBackend",):
            return CoreMLPayloadRunner(self.path, self.file)
        return RuntimeRunner(self, torch.get_num_threads())

    def session(self, setup: SessionSetup) -> Session:
        from mobileclip_deploy.targets.executorch.benchmarking import ExecuTorchSession

        return ExecuTorchSession(self.path, setup)


def _info(name: str, spec: TensorSpec) -> TensorInfo:
    return TensorInfo(name, spec.dtype, spec.shape)
