"""Base of every training: steps with a running average of the weights, atomic checkpoints, bit-exact resumption.

Uses torch's AdamW, its schedules and its averaged model. A subclass says what is learned, and from which items.
"""

import contextlib
import pickle
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mobileclip_deploy.base.files import replacing
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.training.trainer.network import optimizer, schedule
from mobileclip_deploy.training.trainer.processes import Processes, normalise_across
from mobileclip_deploy.training.trainer.recipe import Optimisation

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.safetensors"
FORECAST_STEPS = 3
Network = TypeVar("Network", bound=nn.Module)
Item = TypeVar("Item")
Row = TypeVar("Row")


class Training(ABC, Generic[Network, Item, Row]):
    """A network in training mode on its device, and all state that a step changes. Each step consumes one item.
    `objective`: a module that is trained with the network only for the sake of the loss. `identity`: all settings that
    decide the result. `called`: the network's name in the checkpoint. `row`: the dataclass of a row of the log."""

    called: ClassVar[str]
    row: ClassVar[type]

    def __init__(
        self,
        network: Network,
        objective: nn.Module,
        recipe: Optimisation,
        folder: Path,
        processes: Processes,
        identity: dict[str, object],
    ) -> None:
        self.network, self.objective, self.processes = network, objective, processes
        self.settings, self.folder, self.identity = recipe, folder, identity
        self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
        self.average.requires_grad_(False).eval()
        if processes.count > 1:
            normalise_across(network, processes.device(recipe.device))
        self.optimizer = optimizer(network, objective, recipe)
        self.schedule = schedule(self.optimizer, recipe)
        self.step, self.losses, self.log = 0, list[float](), list[Row]()
        self.announce: Callable[[str], None] = silent

    @abstractmethod
    def gradients(self, item: Item) -> Tensor:
        """Computes the loss of a step, a scalar, and leaves its gradients in the weights."""

    @abstractmethod
    def measure(self) -> Row:
        """Returns a row of the log."""

    @property
    def averaged(self) -> Network:
        """Running average of the weights, in eval mode."""
        return cast(Network, self.average.module.eval())

    def bound(self) -> None:
        """Clamps weights to their bounds after a step."""

    def kept(self) -> dict[str, Any]:
        """Returns additional state of a subclass for the checkpoint."""
        return {}

    def _parts(self) -> dict[str, Any]:
        names = ("objective", "average", "optimizer", "schedule")
        return {self.called: self.network} | {name: getattr(self, name) for name in names}

    def resume(self, state: dict[str, Any]) -> None:
        """Continues from a saved state.

        Raises:
            UsageError: the state is of another training.
        """
        # Fields that an earlier version did not have were at their defaults, which are None.
        differ = [name for name, value in self.identity.items() if state["identity"].get(name) != value]
        if differ:
            raise UsageError(
                f"{self.folder} has a training run with other {', '.join(differ)}; choose another output with `output`"
            )
        for name, part in self._parts().items():
            part.load_state_dict(state.get(name, {}))
        self.step, self.losses = state["step"], state["losses"]
        self.log = TypeAdapter(list[self.row]).validate_python(state["log"])  # type: ignore[name-defined]

    def save(self) -> None:
        """Saves all state that a training needs to continue."""
        state = {name: part.state_dict() for name, part in self._parts().items()} | self.kept()
        state |= {"step": self.step, "losses": self.losses, "log": [asdict(row) for row in self.log]}  # type: ignore[call-overload]
        with replacing(self.folder / CHECKPOINT) as partial:
            torch.save(state | {"identity": self.identity}, partial)

    def update(self, item: Item) -> None:
        """Makes one step, on this process's share of the item."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.gradients(item)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
        self.optimizer.step()
        self.schedule.step()
        self.bound()
        self.average.update_parameters(self.network)
        self.losses.append(loss.item())
        self.step += 1

    def checked_loss(self, loss: Tensor) -> Tensor:
        """Returns the loss if it is finite in all processes.

        Raises:
            InvalidInput, PeerFailed: the loss is NaN or infinite, here or in another process.
        """
        bad = None
        if not torch.isfinite(loss):
            bad = InvalidInput(f"the loss is {loss.item()} at step {self.step}; lower the recipe's learning_rate")
        self.processes.raise_if_any_failed(bad)
        return loss

    def improved(self) -> bool:
        """Returns whether the training goes on after a measurement."""
        return True

    def run(self, items: Iterable[Item], progress: Progress, measured: Callable[[Row], None]) -> int:
        """Makes all remaining steps. Returns the index of the first one. After the third step
        `announce` gets a forecast."""
        first, steps, started = self.step, self.settings.steps, (time.perf_counter(), time.process_time())
        for item in items:
            self.update(item)
            last = self.step == steps
            if self.processes.first and self.step == first + FORECAST_STEPS:
                self.announce(self._forecast(time.perf_counter() - started[0], time.process_time() - started[1]))
            if self.processes.first and (self.step % self.settings.evaluate_every == 0 or last):
                self.log.append(self.measure())
                self.losses.clear()
                measured(self.log[-1])
                last = last or not self.improved()
            if self.processes.first and (self.step % self.settings.checkpoint_every == 0 or last):
                self.save()
            if self.losses:
                progress(f"step {self.step} of {steps}, loss {self.losses[-1]:.3f}")
            if last:
                break
        return first

    def _forecast(self, seconds: float, cpu_seconds: float) -> str:
        """Returns one line about the whole training, from the durations of the first steps."""
        hours, cpu_hours = (
            self.settings.steps * duration / FORECAST_STEPS / 3600 for duration in (seconds, cpu_seconds)
        )
        memory = _peak_memory() if self.settings.device == "cpu" else ""
        return (
            f"{self.settings.steps:,} steps of {self.settings.batch:,}: about {hours:.2g} hours at the speed of the "
            f"first {FORECAST_STEPS} ({cpu_hours:.2g} CPU hours{memory})"
        )


def _peak_memory() -> str:
    """Returns the largest memory of this process so far, in words; empty on Windows, where Python cannot know."""
    if sys.platform == "win32":
        return ""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return f", {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB of memory"


@contextlib.contextmanager
def sole_training(folder: Path, processes: Processes) -> Iterator[None]:
    """Holds the lock of a training's folder for all processes; only the first one takes it.

    Raises:
        UsageError: the folder is a file, cannot be written, or another training writes it.
    """
    if folder.is_file():
        raise UsageError(f"{folder} is a file; choose another output with `output`")
    with sole_writer(folder / CHECKPOINT, "train", force=True) if processes.first else contextlib.nullcontext():
        yield


def read_state(folder: Path) -> dict[str, Any] | None:
    """Reads the saved state of a training from its folder. None if nothing was saved.

    Raises:
        InvalidInput: damaged, or not a regular file.
    """
    file = folder / CHECKPOINT
    if not file.exists():
        return None
    if not file.is_file():
        raise InvalidInput(f"{file} is not a regular file; remove it to train from the beginning")
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise InvalidInput(f"{file} is damaged; remove it to train from the beginning") from error
    return state
