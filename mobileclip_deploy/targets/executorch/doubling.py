"""Depthwise convolutions that make several channels of each one, as so many that make one: the same numbers.

MobileCLIP's image towers double their channels so: three windows of 7 x 7 with stride 2, and one of 3 x 3 at the end.
XNNPACK has kernels only for depthwise convolutions of one output per channel, and runs those with two as a product for
each channel. Taken apart, those of 7 x 7 can be dealt out to bands of rows as all others are (`targets.depthwise`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Apart", "split_doubling"]


class Apart(nn.Module):
    """Convolutions [N, C, H, W] -> [N, C, H', W'] that equal one to [N, count * C, H', W']: the first gives its
    channels 0, count, 2 * count and so on, the second those behind them."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_part(conv, number) for number in range(conv.out_channels // conv.in_channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([part(x) for part in self.parts], 2).flatten(1, 2)  # by way of [N, C, count, H', W']


def split_doubling(module: nn.Module) -> int:
    """Replace every such convolution inside `module`, in place; says how many there were."""
    found = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d) and 1 < child.groups == child.in_channels < child.out_channels
    ]
    for parent, name, conv in found:
        setattr(parent, name, Apart(conv))
    return len(found)


def _part(conv: nn.Conv2d, number: int) -> nn.Conv2d:
    count = conv.out_channels // conv.in_channels
    part = nn.Conv2d(
        conv.in_channels,
        conv.in_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )
    part.weight = nn.Parameter(conv.weight.detach()[number::count].clone())  # [C, 1, KH, KW]
    if part.bias is not None and conv.bias is not None:
        part.bias = nn.Parameter(conv.bias.detach()[number::count].clone())
    return part.to(conv.weight.device)
