"""Convolutional blocks, of which some train with several branches: MobileOne block, large-kernel convolution, RepMixer,
squeeze-excite, feed-forward and conditional positional encoding.

Structure after MobileOne (arXiv 2206.04040), RepLKNet (arXiv 2203.06717) and FastViT (arXiv 2303.14189). In training
form a block sums its branches; in inference form (see `mobileclip_deploy.folding`) it holds one convolution, `conv`.
One definition serves images (k x k kernels) and, with 1 x k kernels, the `mct` text tower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = [
    "ConvBN",
    "ConvFFN",
    "LargeKernelConv",
    "MobileOneBlock",
    "RepCPE",
    "RepMixer",
    "RepMixerBlock",
    "SqueezeExcite",
    "same_padding",
]


def same_padding(kernel: tuple[int, int]) -> tuple[int, int]:
    """Zero padding that keeps height and width at stride 1 (odd kernels)."""
    return kernel[0] // 2, kernel[1] // 2


class ConvBN(nn.Sequential):
    """A convolution without bias and its BatchNorm: [N, Cin, H, W] -> [N, Cout, H', W']."""

    conv: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self, cin: int, cout: int, kernel: tuple[int, int], stride: int, groups: int, padding: int | None = None
    ) -> None:
        super().__init__()
        pad = same_padding(kernel) if padding is None else padding
        self.conv = nn.Conv2d(cin, cout, kernel, stride, pad, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(cout)


class SqueezeExcite(nn.Module):
    """Channel attention from the global mean (arXiv 1709.01507): [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.fc2 = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True))))  # [N, C, 1, 1]
        return x * torch.sigmoid(gate)


class MobileOneBlock(nn.Module):
    """Sum of a k x k branch, a 1 x 1 `scale` branch and a BatchNorm `skip` branch, then squeeze-excite and GELU.

    The skip branch exists where input and output have the same shape; the scale branch where the kernel is higher
    than one row, so the text tower's 1 x 11 mixers have none.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        groups: int = 1,
        branches: int = 1,
        scale_branch: bool = True,
        squeeze: int | None = None,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.groups = kernel, stride, groups
        self.branches = nn.ModuleList(ConvBN(cin, cout, kernel, stride, groups) for _ in range(branches))
        self.scale = ConvBN(cin, cout, (1, 1), stride, groups) if scale_branch and kernel[0] > 1 else None
        # Without a convolution: BatchNorm alone, of the identity. Folding makes a kernel of it that is 1 in its centre.
        self.skip = nn.BatchNorm2d(cin) if cin == cout and stride == 1 else None
        self.conv: nn.Conv2d | None = None
        self.se = SqueezeExcite(cout, squeeze) if squeeze else nn.Identity()
        self.act = nn.GELU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            return self.act(self.se(self.conv(x)))
        terms = [branch(x) for branch in self.branches]
        terms += [branch(x) for branch in (self.scale, self.skip) if branch is not None]
        return self.act(self.se(sum(terms[1:], terms[0])))


class LargeKernelConv(nn.Module):
    """Depthwise convolution with a large and a small kernel in parallel, then squeeze-excite and GELU."""

    def __init__(
        self,
        cin: int,
        cout: int,
        *,
        kernel: int = 7,
        small_kernel: int = 3,
        stride: int = 2,
        squeeze: int | None = None,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.groups = (kernel, kernel), stride, cin
        self.large: ConvBN | None = ConvBN(cin, cout, self.kernel, stride, groups=cin)
        self.small: ConvBN | None = ConvBN(cin, cout, (small_kernel, small_kernel), stride, groups=cin)
        self.conv: nn.Conv2d | None = None
        self.se = SqueezeExcite(cout, squeeze) if squeeze else nn.Identity()
        self.act = nn.GELU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            return self.act(self.se(self.conv(x)))
        assert self.large is not None
        assert self.small is not None
        # The small kernel helps training to see detail; padded with zeros to the large one's size it adds to it.
        return self.act(self.se(self.large(x) + self.small(x)))


# Residual branches begin as almost nothing, so that a deep network trains from the identity (arXiv 2103.17239).
LAYER_SCALE_INIT = 1e-5


class RepMixer(nn.Module):
    """Token mixer x + layer_scale * (mixer(x) - norm(x)), in inference form one depthwise convolution `conv`."""

    def __init__(self, width: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        # No branch and no scale: of the block only the skip BatchNorm is left.
        self.norm: MobileOneBlock | None = MobileOneBlock(
            width, width, kernel, groups=width, branches=0, scale_branch=False, activation=False
        )
        self.mixer: MobileOneBlock | None = MobileOneBlock(width, width, kernel, groups=width, activation=False)
        self.layer_scale: nn.Parameter | None = nn.Parameter(torch.full((width, 1, 1), LAYER_SCALE_INIT))
        self.conv: nn.Conv2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            return self.conv(x)
        assert self.mixer is not None
        assert self.norm is not None
        assert self.layer_scale is not None
        return x + self.layer_scale * (self.mixer(x) - self.norm(x))


class ConvFFN(nn.Module):
    """Feed-forward on feature maps: depthwise convolution with BatchNorm, then 1 x 1, GELU, 1 x 1."""

    def __init__(self, width: int, hidden: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.conv: ConvBN | nn.Conv2d = ConvBN(width, width, kernel, 1, groups=width)
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(self.conv(x))))


class RepCPE(nn.Module):
    """Conditional positional encoding x + pe(x) (arXiv 2102.10882), in inference form one convolution `conv`."""

    def __init__(self, width: int, kernel: tuple[int, int] = (7, 7)) -> None:
        super().__init__()
        self.kernel = kernel
        self.pe: nn.Conv2d | None = nn.Conv2d(width, width, kernel, padding=same_padding(kernel), groups=width)
        self.conv: nn.Conv2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            return self.conv(x)
        assert self.pe is not None
        return x + self.pe(x)


class RepMixerBlock(nn.Module):
    """RepMixer, then convolutional feed-forward with a residual: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(
        self, width: int, mlp_ratio: float, mixer_kernel: tuple[int, int], ffn_kernel: tuple[int, int]
    ) -> None:
        super().__init__()
        self.token_mixer = RepMixer(width, mixer_kernel)
        self.ffn = ConvFFN(width, int(width * mlp_ratio), ffn_kernel)
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), LAYER_SCALE_INIT))

    def forward(self, x: Tensor) -> Tensor:
        x = self.token_mixer(x)
        return x + self.layer_scale * self.ffn(x)
