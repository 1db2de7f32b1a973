"""BatchNorm over the batch of all processes: each one's statistics are those of the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as collective

__all__ = ["normalise_across"]


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
