"""A cell's file loaded on this machine, ready to be timed: by its target, or the checkpoint itself in torch."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.benchmark.job import CHECKPOINT, Cell
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.benchmarking import KernelTime, RuntimePlace, Session, SessionSetup
from mobileclip_deploy.targets.values import TensorInfo

TORCH_MODULES = ("torch", "mobileclip_deploy.checkpoints", "mobileclip_deploy.folding", "mobileclip_deploy.towers")


class TorchSession(Session):
    """The checkpoint itself in torch: `unfolded` as it was trained, `folded`, or `compiled` (folded, torch.compile)."""

    def __init__(self, cell: Cell, path: Path) -> None:
        import torch

        from mobileclip_deploy.checkpoints.loading import load
        from mobileclip_deploy.checkpoints.preprocessing import CARD
        from mobileclip_deploy.folding import fold, is_folded
        from mobileclip_deploy.model.provenance import TakenPreprocess
        from mobileclip_deploy.towers.tower import ImageTower, TextTower

        torch.set_num_threads(cell.threads)
        torch.set_grad_enabled(False)
        size = cell.input.shape[-1] if cell.tower == "image" else None
        said = cell.options.get("preprocess")
        taken = CARD if said is None else TakenPreprocess.model_validate_json(said)
        model = load(path, cell.variant, size, preprocess=taken)
        if cell.backend == "unfolded":
            if is_folded(model):
                raise NotRun("this checkpoint is folded: there is no unfolded form of it to time")
        elif not is_folded(model):
            fold(model)
        tower: Any = (ImageTower if cell.tower == "image" else TextTower)(model).eval()
        self._module = torch.compile(tower) if cell.backend == "compiled" else tower
        self._input: Any = None
        self._output: Any = None

    def feed(self, values: npt.NDArray[Any]) -> None:
        import torch

        self._input = torch.from_numpy(np.ascontiguousarray(values))

    def run(self) -> None:
        self._output = self._module(self._input)

    def answer(self) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self._output.numpy().reshape(-1).copy()
        return found

    def profile(self) -> tuple[KernelTime, ...]:
        import torch

        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            self.run()
        events = [event for event in found.key_averages() if event.self_cpu_time_total > 0]
        times = [KernelTime(event.key, event.count, int(event.self_cpu_time_total * 1000)) for event in events]
        return tuple(sorted(times, key=lambda one: -one.total_ns))


def import_runtime(cell: Cell) -> None:
    """Import what a cell needs, so that loading a model is not charged for loading Python modules."""
    if cell.target != CHECKPOINT:
        return get_target(cell.target or "").abilities.import_runtime()
    for module in TORCH_MODULES:
        importlib.import_module(module)


def open_session(cell: Cell, folder: Path) -> Session:
    """Load a cell's file.

    Raises:
        NotRun: this machine has nothing that can run it.
    """
    path = folder / cell.file
    if cell.target == CHECKPOINT:
        return TorchSession(cell, path)
    options = tuple((name, value) for name, value in cell.options.items() if name != "function")
    setup = SessionSetup(
        place=RuntimePlace(cell.runtime, cell.backend, cell.compute_units, options),
        threads=cell.threads,
        input=TensorInfo(cell.input.name, cell.input.dtype, cell.input.shape),
        output=TensorInfo(cell.output.name, cell.output.dtype, cell.output.shape),
    )
    return get_target(cell.target or "").open(path, cell.options.get("function")).session(setup)
