"""MobileOne block, large-kernel convolution and squeeze-excite: convolutions that train with several branches.

Structure after MobileOne (arXiv 2206.04040), RepLKNet (arXiv 2203.06717) and FastViT (arXiv 2303.14189). In training
form a block sums its branches; in inference form (see `mobileclip_deploy.network.folding`) it holds one convolution,
`conv`.
"""

import torch
from torch import Tensor, nn


def same_padding(kernel: tuple[int, int]) -> tuple[int, int]:
    """Returns the zero padding that keeps height and width at stride 1 (odd kernels)."""
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

    The skip branch exists if input and output have the same shape. The scale branch exists if the kernel has more than
    one row, so the text tower's 1 x 11 mixers have none.
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
        self.scale = ConvBN(cin, cout, (1, 1), 1, groups) if scale_branch and kernel[0] > 1 else None
        # Without a convolution: BatchNorm alone, of the identity. Folding turns it into a kernel with a 1 in its
        # centre.
        self.skip = nn.BatchNorm2d(cin) if cin == cout and stride == 1 else None
        self.conv: nn.Conv2d | None = None
        self.se = SqueezeExcite(cout, squeeze) if squeeze else nn.Identity()
        self.act = nn.GELU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            return self.act(self.se(self.conv(x)))
        terms = [branch(x) for branch in self.branches]
        if self.scale is not None:
            # The pixels that a strided 1 x 1 convolution reads, [N, Cin, H', W']. oneDNN's own of 3 channels, channels
            # last, writes past its memory when it computes the gradient (uxlfoundation/oneDNN#6035, torch 2.13).
            terms.append(self.scale(x[:, :, :: self.stride, :: self.stride]))
        if self.skip is not None:
            terms.append(self.skip(x))
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
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.groups = (kernel, kernel), stride, cin
        self.large: ConvBN | None = ConvBN(cin, cout, self.kernel, stride, groups=cin)
        self.small: ConvBN | None = ConvBN(cin, cout, (small_kernel, small_kernel), stride, groups=cin)
        self.conv: nn.Conv2d | None = None
        self.se = SqueezeExcite(cout, squeeze) if squeeze else nn.Identity()
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            return self.act(self.se(self.conv(x)))
        assert self.large is not None
        assert self.small is not None
        # The small kernel helps training to see detail; padded with zeros to the large one's size it adds to it.
        return self.act(self.se(self.large(x) + self.small(x)))
