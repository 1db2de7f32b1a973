"""Folds of a block's branches, whose sum becomes one convolution."""

from torch import nn

from mobileclip_deploy.network.folding.fold_pass import (
    FoldPass,
    batch_norm_affine,
    convolution,
    fold_conv_bn,
    identity_kernel,
    pad_kernel,
)
from mobileclip_deploy.network.model.architecture.mobileone import LargeKernelConv, MobileOneBlock
from mobileclip_deploy.network.model.architecture.repmixer import RepCPE, RepMixer


class FoldMobileOne(FoldPass[MobileOneBlock]):
    """k x k branches + 1 x 1 scale branch + BatchNorm skip branch -> `conv` (arXiv 2206.04040, section 3.2)."""

    name = "mobileone"
    block = MobileOneBlock

    def fold(self, module: MobileOneBlock) -> None:
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


class FoldLargeKernel(FoldPass[LargeKernelConv]):
    """Large and small convolution with their BatchNorms -> `conv` (RepLKNet, arXiv 2203.06717)."""

    name = "large-kernel"
    block = LargeKernelConv

    def fold(self, module: LargeKernelConv) -> None:
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


class FoldRepMixer(FoldPass[RepMixer]):
    """x + s * (mixer(x) - norm(x)) -> `conv` with kernel I + s * (mixer - norm) (arXiv 2303.14189), skip connection and
    layer scale included. Runs after the MobileOne fold."""

    name = "repmixer"
    block = RepMixer

    def fold(self, module: RepMixer) -> None:
        assert module.layer_scale is not None
        assert module.mixer is not None
        assert module.norm is not None
        mixer, norm = module.mixer.conv, module.norm.conv
        assert mixer is not None
        assert norm is not None
        assert mixer.bias is not None
        assert norm.bias is not None
        scale = module.layer_scale.double()
        channels = scale.numel()
        kernel = identity_kernel(channels, channels, module.kernel, scale.device)
        # [C, 1, 1, 1] * [C, 1, k, k]: depthwise, so the layer scale of a channel multiplies one kernel.
        kernel = kernel + scale.unsqueeze(-1) * (mixer.weight.double() - norm.weight.double())
        bias = scale.flatten() * (mixer.bias.double() - norm.bias.double())  # [C]
        module.conv = convolution(kernel, bias, module.layer_scale, groups=channels)
        module.mixer = module.norm = module.layer_scale = None


class FoldRepCPE(FoldPass[RepCPE]):
    """A conditional positional encoding with its skip connection, x + pe(x) -> `conv`."""

    name = "repcpe"
    block = RepCPE

    def fold(self, module: RepCPE) -> None:
        assert module.pe is not None
        assert module.pe.bias is not None
        weight = module.pe.weight
        identity = identity_kernel(weight.shape[0], weight.shape[0], module.kernel, weight.device)
        # [C, 1, 7, 7] with 1 added to the centre: x + pe(x) in one convolution.
        module.conv = convolution(weight.double() + identity, module.pe.bias, weight, groups=weight.shape[0])
        module.pe = None
