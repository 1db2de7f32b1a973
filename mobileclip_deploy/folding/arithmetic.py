"""The arithmetic all folds share, in float64: BatchNorm as an affine map, and its product with a convolution.

At inference BatchNorm computes y = (x - mean) / sqrt(var + eps) * weight + bias, that is y = scale * x + shift.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mobileclip_deploy.model.architecture.mobileone import ConvBN, same_padding

__all__ = ["batch_norm_affine", "convolution", "fold_conv_bn", "identity_kernel", "pad_kernel"]


def batch_norm_affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm with running statistics: two float64 tensors [C]."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    # In float64: with a small variance the quotient is large, and its float32 rounding would show in the embeddings.
    scale = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
    return scale, bn.bias.double() - bn.running_mean.double() * scale


def fold_conv_bn(pair: ConvBN) -> tuple[Tensor, Tensor]:
    """Kernel [Cout, Cin/groups, kh, kw] and bias [Cout] of a convolution with its BatchNorm, float64."""
    scale, shift = batch_norm_affine(pair.bn)
    return pair.conv.weight.double() * scale.reshape(-1, 1, 1, 1), shift


def identity_kernel(channels: int, groups: int, kernel: tuple[int, int], device: torch.device) -> Tensor:
    """The kernel that returns its input: [channels, channels/groups, kh, kw], float64."""
    weight = torch.zeros(channels, channels // groups, *kernel, dtype=torch.float64, device=device)
    # A grouped kernel counts input channels from the start of its group: output c reads c % (channels / groups).
    rows = torch.arange(channels, device=device)
    weight[rows, rows % (channels // groups), kernel[0] // 2, kernel[1] // 2] = 1
    return weight


def pad_kernel(weight: Tensor, kernel: tuple[int, int]) -> Tensor:
    """A kernel centred in zeros up to a larger (odd) size."""
    high, wide = (kernel[0] - weight.shape[2]) // 2, (kernel[1] - weight.shape[3]) // 2
    return torch.nn.functional.pad(weight, (wide, wide, high, high))


def convolution(
    weight: Tensor,
    bias: Tensor,
    like: Tensor,
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str | None = None,
    groups: int,
) -> nn.Conv2d:
    """A convolution with these float64 values, rounded once to the dtype of `like`; keeps the size when `padding` is
    None."""
    kernel = (weight.shape[2], weight.shape[3])
    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        kernel,
        cast("tuple[int, int]", stride),
        cast("tuple[int, int]", same_padding(kernel) if padding is None else padding),
        groups=groups,
        # On the meta device: random initial values would be drawn only to be replaced.
        device="meta",
        dtype=like.dtype,
    )
    conv.weight = nn.Parameter(weight.detach().to(like.dtype).contiguous(), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach().to(like.dtype).contiguous(), requires_grad=False)
    return conv.eval()
