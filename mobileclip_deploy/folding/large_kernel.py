"""Fold: the small kernel of a large-kernel convolution into the large one (RepLKNet, arXiv 2203.06717)."""

from __future__ import annotations

from torch import nn

from mobileclip_deploy.folding.arithmetic import convolution, fold_conv_bn, pad_kernel
from mobileclip_deploy.folding.fold_pass import FoldPass
from mobileclip_deploy.model.architecture.mobileone import LargeKernelConv

__all__ = ["FoldLargeKernel"]


class FoldLargeKernel(FoldPass):
    """Large and small convolution with their BatchNorms -> `conv`."""

    name = "large-kernel"
    block = LargeKernelConv

    def pending(self, module: nn.Module) -> bool:
        return module.conv is None

    def fold(self, module: nn.Module) -> None:
        assert isinstance(module, LargeKernelConv)
        assert module.large is not None
        assert module.small is not None
        kernel, bias = fold_conv_bn(module.large)
        small_kernel, small_bias = fold_conv_bn(module.small)
        module.conv = convolution(
            kernel + pad_kernel(small_kernel, module.kernel),  # [C', 1, 7, 7] + the centred [C', 1, 3, 3]
            bias + small_bias,
            module.large.conv.weight,
            stride=module.stride,
            groups=module.groups,
        )
        module.large = module.small = None
