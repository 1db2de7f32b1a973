"""The processes of one training: one alone, or all that `torchrun` started, each with its share of every batch.

Every process has the whole batch's embeddings and computes the same loss from them. Gathering returns gradients to the
process that computed the embeddings, summed over processes. DistributedDataParallel averages gradients of the weights
over processes. Both together are the gradient of the one loss.
"""

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
from mobileclip_deploy.training.trainer.ranks import PeerFailed

T = TypeVar("T")

PATIENCE = timedelta(hours=6)
"""Longest wait of processes for each other, since one of them alone measures on the held-out set. When a process ends,
torchrun ends the others."""


@dataclass(frozen=True)
class Processes:
    """Rank of this process and number of processes. Rank 0 writes, measures and prints."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """True if this process writes."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """Returns the recipe's device; for "cuda" the GPU of this process."""
        if self.count == 1 or name != "cuda":
            return name
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank))}"

    def share(self, batch: list[T]) -> list[T]:
        """Returns this process's part of a batch: every `count`th item. No two parts overlap, and all have some of the
        first items."""
        return batch[self.rank :: self.count]

    def run_on_all(self, act: Callable[[], T]) -> T:
        """Returns the result of `act` once it has succeeded in all processes.

        Raises:
            MobileClipDeployError: `act` failed here.
            PeerFailed: it failed in another process.
        """
        error: MobileClipDeployError | None = None
        results: list[T] = []
        try:
            results.append(act())
        except MobileClipDeployError as exception:
            error = exception
        if self.count > 1:
            errors: list[tuple[str, int] | None] = [None] * self.count
            distributed.all_gather_object(errors, None if error is None else (error.line, error.exit_code))
            failed = [rank for rank, message in enumerate(errors) if message is not None]
            if failed and (error is None or failed[0] != self.rank):  # the lowest failed rank prints its own error
                line, code = errors[failed[0]] or ("", 2)
                raise PeerFailed(line, code)
        if error is not None:
            raise error
        return results[0]

    def raise_if_any_failed(self, error: MobileClipDeployError | None) -> None:
        """Returns if no process has an error. Each step exchanges one number; error texts are exchanged only if it is
        not 0.

        Raises:
            MobileClipDeployError, PeerFailed: see `run_on_all`.
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

        self.run_on_all(act)

    def gathered(self, values: Tensor) -> Tensor:
        """Returns the rows [B / count, ...] of all processes as those of the batch [B, ...]. Gradients flow back to the
        process of each row."""
        if self.count == 1:
            return values
        if values.requires_grad:
            parts = list(collective.all_gather(values.contiguous()))
        else:
            parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(self.count)]
            distributed.all_gather(parts, values.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    def with_common_captions(self, batch: Batch, device: torch.device) -> Batch:
        """Returns this process's share with as many captions per pair as the largest share has. Missing synthetic
        captions repeat the true one, as `collate` does within a share."""
        if self.count == 1:
            return batch
        width = torch.tensor(batch.ids.shape[1], device=device)
        distributed.all_reduce(width, distributed.ReduceOp.MAX)
        columns = [*range(batch.ids.shape[1]), *([0] * (int(width) - batch.ids.shape[1]))]
        texts = tuple(embedded[:, columns] for embedded in batch.texts)
        return replace(batch, captions=batch.captions[:, columns], ids=batch.ids[:, columns], texts=texts)

    def labels(self, batch: Batch, device: torch.device) -> Batch:
        """Returns the whole batch without its pixels, which stay this process's. A loss needs no more."""
        if self.count == 1:
            return batch
        return batch.labels(lambda values: self.gathered(values.to(device)))

    def total(self, number: int) -> int:
        """Returns the sum of a number over all processes."""
        if self.count == 1:
            return number
        summed = torch.tensor(number, device=_current_device())
        distributed.all_reduce(summed)
        return int(summed)

    def averaged(self, gradients: nn.Module) -> None:
        """Averages over processes the gradients of a module that DistributedDataParallel does not wrap."""
        if self.count == 1:
            return
        for weight in gradients.parameters():
            if weight.grad is not None:
                distributed.all_reduce(weight.grad)
                weight.grad /= self.count

    def parallel(self, module: nn.Module) -> nn.Module:
        """Returns the module with its gradients averaged over processes."""
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
    """Yields the processes that torchrun started, connected by gloo, or by nccl if the device is "cuda". Without
    torchrun it yields this process alone.

    Raises:
        UsageError: they cannot be connected, there are fewer GPUs than processes, or this machine lacks the device.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        if device.startswith("cuda"):
            raise UsageError(f"this machine has no device {device!r}; use cpu") from error
        lacking = "" if torch.cuda.is_available() else " (this machine has none)"
        raise UsageError(f"unknown device {device!r}; use cpu, or cuda{lacking}") from error
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
        raise UsageError(f"the processes cannot be connected (torch: {reason!r}); start them with torchrun") from error
    try:
        yield Processes(rank, count)
    finally:
        distributed.destroy_process_group()


class AcrossProcesses(nn.BatchNorm2d):
    """BatchNorm2d with mean and variance over all processes. torch's own SyncBatchNorm works only on GPUs."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return super().forward(values)
        assert self.weight is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        shape, over = (1, -1, 1, 1), (0, 2, 3)
        count = distributed.get_world_size() * values.numel() / values.shape[1]  # every process has as many
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
    """Replaces every BatchNorm of the model by one over the batch of all processes. Its weights stay the same
    tensors."""
    if device.startswith("cuda"):
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = AcrossProcesses  # keeps its state, and references to it stay valid
    return model
