"""Blocks with BatchNorm statistics as after training: nothing at its initial value, so that no fold passes by luck."""

import torch
from torch import Tensor, nn


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in eval mode and float64, every parameter and statistic drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            value.copy_(0.5 + noise.abs() if name.endswith(("running_var", "bn.weight")) else 0.5 * noise)
    return module


@torch.no_grad()
def deviation(module: nn.Module, before: Tensor, x: Tensor) -> float:
    """How far the module's output moved, relative to the largest value before."""
    return ((module(x) - before).abs().max() / before.abs().max()).item()
