"""The processes of one training: alone, or as many as `torchrun` started, each with its share of every batch.

Every process has the whole batch's embeddings and computes the same loss of them. Gathering hands gradients back to the
process whose embeddings they are, summed over processes, and DistributedDataParallel averages over processes what
arrives at the weights: both together are the gradient of the one loss.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as collective
from torch.nn.parallel import DistributedDataParallel

from mobileclip_deploy.errors import MobileClipDeployError, UsageError
from mobileclip_deploy.training.reinforcement.samples import Batch
from mobileclip_deploy.training.trainer.leading import OtherFailed

T = TypeVar("T")

PATIENCE = timedelta(hours=6)
"""So long processes wait for each other: one of them measures on the held-out set alone. When one ends, torchrun ends
the others."""


@dataclass(frozen=True)
class Processes:
    """Which one of how many this is. Rank 0 writes, measures and tells."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The recipe's device; of GPUs the one that is this process's."""
        if self.count == 1 or name != "cuda":
            return name
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank))}"

    def share(self, batch: list[T]) -> list[T]:
        """This process's part of a batch: every `count`th, so that no two have the same, and all have some of the first
        ones."""
        return batch[self.rank :: self.count]

    def together(self, act: Callable[[], T]) -> T:
        """What `act` gives, once it has ended well in all processes.

        Raises:
            MobileClipDeployError: its own, here.
            OtherFailed: it failed in another process.
        """
        error: MobileClipDeployError | None = None
        found: list[T] = []
        try:
            found.append(act())
        except MobileClipDeployError as refused:
            error = refused
        if self.count > 1:
            told: list[tuple[str, int] | None] = [None] * self.count
            distributed.all_gather_object(told, None if error is None else (error.line, error.exit_code))
            failed = [rank for rank, one in enumerate(told) if one is not None]
            if failed and (error is None or failed[0] != self.rank):  # the lowest tells
                line, code = told[failed[0]] or ("", 2)
                raise OtherFailed(line, code)
        if error is not None:
            raise error
        return found[0]

    def agreed(self, error: MobileClipDeployError | None) -> None:
        """Go on if no process has an error; a number travels at each step, and words only where it is not 0.

        Raises:
            MobileClipDeployError, OtherFailed: see `together`.
        """
        if self.count > 1:
            bad = torch.tensor(float(error is not None), device=_current_device())
            distributed.all_reduce(bad)
            if bad.item() == 0:
                return
        elif error is None:
            return

        def act() -> None:
            if error is not None:
                raise error

        self.together(act)

    def gathered(self, values: Tensor) -> Tensor:
        """Rows [B / count, ...] of all processes as those of the batch [B, ...]; gradients go back to where rows came
        from."""
        if self.count == 1:
            return values
        if values.requires_grad:
            parts = list(collective.all_gather(values.contiguous()))
        else:
            parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(self.count)]
            distributed.all_gather(parts, values.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def widened(self, batch: Batch, device: torch.device) -> Batch:
        """This process's share, with as many captions a pair as the other shares have: where no pair of it has a
        synthetic caption, its true one stands for it, as it does beside pairs that have one."""
        if self.count == 1:
            return batch
        found = torch.tensor(batch.ids.shape[1], device=device)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        columns = [*range(batch.ids.shape[1]), *([0] * (int(found) - batch.ids.shape[1]))]
        texts = tuple(one[:, columns] for one in batch.texts)
        return replace(batch, captions=batch.captions[:, columns], ids=batch.ids[:, columns], texts=texts)

    def labels(self, batch: Batch, device: torch.device) -> Batch:
        """What a loss needs to know of the whole batch: all but the pixels, which stay this process's."""
        if self.count == 1:
            return batch
        return batch.labels(lambda values: self.gathered(values.to(device)))

    def total(self, number: int) -> int:
        """The sum of a number over all processes."""
        if self.count == 1:
            return number
        found = torch.tensor(number, device=_current_device())
        distributed.all_reduce(found)
        return int(found)

    def averaged(self, gradients: nn.Module) -> None:
        """The mean over processes of the gradients of a module that DistributedDataParallel has not."""
        if self.count == 1:
            return
        for weight in gradients.parameters():
            if weight.grad is not None:
                distributed.all_reduce(weight.grad)
                weight.grad /= self.count

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over processes."""
        if self.count == 1:
            return module
        return DistributedDataParallel(module, broadcast_buffers=False)


ALONE = Processes()


def _current_device() -> torch.device:
    if distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that torchrun started, connected by gloo, or by nccl where the device is "cuda"; this one alone
    where it was not torchrun.

    Raises:
        UsageError: they cannot be connected, there are fewer GPUs than processes, or the device is not to be had here.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"the device {device!r} is not to be had here; take device: cpu") from error
    count = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if count == 1:
        yield ALONE
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(f"process {local} of this machine has no GPU; start {torch.cuda.device_count()} at most")
        torch.cuda.set_device(local)
    options: dict[str, Any] = {"timeout": PATIENCE}
    try:
        distributed.init_process_group("nccl" if device == "cuda" else "gloo", rank=rank, world_size=count, **options)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(
            f"the processes cannot be connected (torch says {reason!r}); start them with torchrun"
        ) from error
    try:
        yield Processes(rank, count)
    finally:
        distributed.destroy_process_group()


class AcrossProcesses(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance are of all processes' values. torch's own SyncBatchNorm is for GPUs alone."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return super().forward(values)
        assert self.weight is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        shape, over = (1, -1, 1, 1), (0, 2, 3)
        count = distributed.get_world_size() * values.numel() / values.shape[1]  # all have as many
        mean = collective.all_reduce(values.sum(over)) / count  # [C]
        centred = values - mean.view(shape)
        variance = collective.all_reduce(centred.square().sum(over)) / count  # [C]
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.detach(), self.momentum or 0.1)
            self.running_var.lerp_(variance.detach() * (count / (count - 1)), self.momentum or 0.1)
        scale = (variance + self.eps).rsqrt() * self.weight
        return centred * scale.view(shape) + self.bias.view(shape)


def normalise_across(model: nn.Module, device: str) -> nn.Module:
    """The model, every BatchNorm of it over the batch of all processes; its weights stay the same tensors."""
    if device.startswith("cuda"):
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = AcrossProcesses  # it has the same state, and others refer to it
    return model
