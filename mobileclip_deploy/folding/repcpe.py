"""Fold: a conditional positional encoding's skip connection into its convolution."""

from __future__ import annotations

from torch import nn

from mobileclip_deploy.folding.arithmetic import convolution, identity_kernel
from mobileclip_deploy.folding.fold_pass import FoldPass
from mobileclip_deploy.model.architecture.repmixer import RepCPE

__all__ = ["FoldRepCPE"]


class FoldRepCPE(FoldPass):
    """x + pe(x) -> `conv`."""

    name = "repcpe"
    block = RepCPE

    def pending(self, module: nn.Module) -> bool:
        return module.conv is None

    def fold(self, module: nn.Module) -> None:
        assert isinstance(module, RepCPE)
        assert module.pe is not None
        assert module.pe.bias is not None
        weight = module.pe.weight
        identity = identity_kernel(weight.shape[0], weight.shape[0], module.kernel, weight.device)
        # [C, 1, 7, 7] with 1 added to the centre: x + pe(x) in one convolution.
        module.conv = convolution(weight.double() + identity, module.pe.bias, weight, groups=weight.shape[0])
        module.pe = None
