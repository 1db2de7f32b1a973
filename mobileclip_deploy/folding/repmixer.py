"""Fold: a RepMixer, skip connection and layer scale included, into one depthwise convolution (arXiv 2303.14189)."""

from __future__ import annotations

from torch import nn

from mobileclip_deploy.folding.arithmetic import convolution, identity_kernel
from mobileclip_deploy.folding.fold_pass import FoldPass
from mobileclip_deploy.model.architecture.repmixer import RepMixer

__all__ = ["FoldRepMixer"]


class FoldRepMixer(FoldPass):
    """x + s * (mixer(x) - norm(x)) -> `conv` with kernel I + s * (mixer - norm). Runs after the MobileOne fold."""

    name = "repmixer"
    block = RepMixer

    def pending(self, module: nn.Module) -> bool:
        return module.conv is None

    def fold(self, module: nn.Module) -> None:
        assert isinstance(module, RepMixer)
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
