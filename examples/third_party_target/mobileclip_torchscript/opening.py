"""A file, opened: what it declares, its graph and weights, and a runner."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.errors import RuntimeFailed
from mobileclip_deploy.targets import Artifact, TensorInfo
from mobileclip_deploy.targets.graph import Graph
from mobileclip_deploy.targets.grids.decode import StoredWeight, as_float
from mobileclip_torchscript.archive import described, load
from mobileclip_torchscript.graph import read_graph

__all__ = ["TorchScriptArtifact"]

BATCH = 16


class TorchScriptArtifact(Artifact):
    """File whose code is read before torch gets it; see `archive`."""

    @cached_property
    def _module(self) -> Any:
        return load(self.path).eval()

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return described(self.path)[:1]

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return described(self.path)[1:]

    @cached_property
    def graph(self) -> Graph:
        return read_graph(self._module, self.ports, self.path)

    @property
    def weights(self) -> tuple[StoredWeight, ...]:
        """Weights by their names in the module, which a trace keeps."""
        return tuple(
            as_float(name, value.detach().numpy())
            for name, value in self._module.named_parameters()
            if value.ndim >= 2 and name.endswith("weight")
        )

    def runner(self) -> TorchScriptRunner:
        return TorchScriptRunner(load(self.path).eval())

    plain_runner = runner


class TorchScriptRunner:
    """Runs a module by torch.

    Raises:
        RuntimeFailed: it fails on valid inputs.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self.engine = f"TorchScript, torch {torch.__version__}"

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        try:
            with torch.no_grad():
                parts = [self._module(part) for part in torch.from_numpy(inputs).split(BATCH)]
        except RuntimeError as error:
            first = (str(error).strip().splitlines() or ["failed"])[-1]
            raise RuntimeFailed(f"TorchScript failed: {first}") from error
        found: npt.NDArray[np.float32] = torch.cat(parts).numpy()
        return found
