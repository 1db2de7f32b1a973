"""RepMixer, convolutional feed-forward and conditional positional encoding (FastViT, arXiv 2303.14189).

One definition serves images (k x k kernels) and, with 1 x k kernels, the `mct` text tower.
"""

import torch
from torch import Tensor, nn

from mobileclip_deploy.network.model.architecture.mobileone import ConvBN, MobileOneBlock, same_padding

# Residual branches begin as almost nothing, so that a deep network trains from the identity (arXiv 2103.17239).
LAYER_SCALE_INIT = 1e-5


class RepMixer(nn.Module):
    """Token mixer x + layer_scale * (mixer(x) - norm(x)), in inference form one depthwise convolution `conv`."""

    def __init__(self, width: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        # Without branches and scale, only the skip BatchNorm of the block is left.
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
