"""Fold: the branches of a MobileOne block into one convolution (arXiv 2206.04040, section 3.2)."""

from __future__ import annotations

from torch import nn

from mobileclip_deploy.folding.arithmetic import (
    batch_norm_affine,
    convolution,
    fold_conv_bn,
    identity_kernel,
    pad_kernel,
)
from mobileclip_deploy.folding.fold_pass import FoldPass
from mobileclip_deploy.model.architecture.mobileone import MobileOneBlock

__all__ = ["FoldMobileOne"]


class FoldMobileOne(FoldPass):
    """k x k branches + 1 x 1 scale branch + BatchNorm skip branch -> `conv`."""

    name = "mobileone"
    block = MobileOneBlock

    def pending(self, module: nn.Module) -> bool:
        return module.conv is None

    def fold(self, module: nn.Module) -> None:
        assert isinstance(module, MobileOneBlock)
        kernels, biases = [], []
        for branch in (*module.branches, *([module.scale] if module.scale is not None else [])):
            kernel, bias = fold_conv_bn(branch)
            kernels.append(pad_kernel(kernel, module.kernel))  # [Cout, Cin / groups, k, k], so that they add up
            biases.append(bias)
        if module.skip is not None:
            scale, shift = batch_norm_affine(module.skip)
            identity = identity_kernel(scale.numel(), module.groups, module.kernel, scale.device)
            # skip(x) = scale * x + shift is a convolution with scale in the centre of the kernel.
            kernels.append(identity * scale.reshape(-1, 1, 1, 1))
            biases.append(shift)
        like = next(module.parameters())  # its dtype is that of the folded convolution
        module.conv = convolution(
            sum(kernels[1:], kernels[0]), sum(biases[1:], biases[0]), like, stride=module.stride, groups=module.groups
        )
        module.branches, module.scale, module.skip = nn.ModuleList().eval(), None, None
