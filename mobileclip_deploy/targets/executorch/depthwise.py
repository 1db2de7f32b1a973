"""Convolutions that XNNPACK has no kernel for, written as several that it has; the same numbers.

Depthwise ones of 7 x 7 are dealt out to three bands of rows (`targets.depthwise`). MobileCLIP's image towers double
their channels by depthwise convolutions that make several channels of each: three windows of 7 x 7 with stride 2, and
one of 3 x 3 at the end. XNNPACK has kernels only for one output per channel, and runs those with two as a product for
each channel. Taken apart, those of 7 x 7 can be dealt out to bands as all others are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mobileclip_deploy.targets.depthwise import BANDS, KERNEL


class RowBands(nn.Module):
    """The sum of three depthwise convolutions that equals one of 7 x 7: [N, C, H, W] -> [N, C, H', W']."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.bands = nn.ModuleList(_band(conv, *band) for band in BANDS)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.bands
        return first(x) + second(x) + third(x)


class Apart(nn.Module):
    """Convolutions [N, C, H, W] -> [N, C, H', W'] that equal one to [N, count * C, H', W']: the first gives its
    channels 0, count, 2 * count and so on, the second those behind them."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_part(conv, number) for number in range(conv.out_channels // conv.in_channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([part(x) for part in self.parts], 2).flatten(1, 2)  # by way of [N, C, count, H', W']


def split_large_depthwise(module: nn.Module) -> int:
    """Replace every 7 x 7 depthwise convolution inside `module`, in place; says how many there were."""
    return _replaced(module, _is_large, RowBands)


def split_doubling(module: nn.Module) -> int:
    """Replace every convolution that makes several channels of each, in place; says how many there were."""
    return _replaced(module, lambda conv: 1 < conv.groups == conv.in_channels < conv.out_channels, Apart)


def _replaced(module: nn.Module, wanted: Callable[[nn.Conv2d], bool], kind: Callable[[nn.Conv2d], nn.Module]) -> int:
    found = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d) and wanted(child)
    ]
    for parent, name, child in found:
        setattr(parent, name, kind(child))
    return len(found)


def _is_large(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (KERNEL, KERNEL)
        and conv.padding == (KERNEL // 2, KERNEL // 2)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.groups == conv.in_channels == conv.out_channels
    )


def _band(conv: nn.Conv2d, first: int, step: int, rows: int) -> nn.Conv2d:
    weight = conv.weight[:, :, first : first + step * (rows - 1) + 1 : step]
    bias = conv.bias if first == 0 else None
    return _like(conv, weight, bias, (KERNEL // 2 - first, KERNEL // 2), (step, 1))


def _part(conv: nn.Conv2d, number: int) -> nn.Conv2d:
    count = conv.out_channels // conv.in_channels
    bias = None if conv.bias is None else conv.bias[number::count]
    return _like(conv, conv.weight[number::count], bias, conv.padding, conv.dilation)  # [C, 1, KH, KW]


def _like(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None, padding: Any, dilation: tuple[int, ...]) -> nn.Conv2d:
    """A depthwise convolution with one output per channel, of a part of another one's weight [C, 1, KH, KW]."""
    made = nn.Conv2d(
        conv.in_channels,
        conv.in_channels,
        weight.shape[2:],  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        padding,
        dilation,  # type: ignore[arg-type]
        groups=conv.groups,
        bias=bias is not None,
        padding_mode=conv.padding_mode,
    )
    made.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made.to(conv.weight.device)
