"""Fold: convolution and BatchNorm pairs outside the reparameterizable blocks (feed-forward, ViT stem)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from mobileclip_deploy.folding.arithmetic import convolution, fold_conv_bn
from mobileclip_deploy.folding.fold_pass import FoldPass
from mobileclip_deploy.model.architecture.mobileone import ConvBN

__all__ = ["FoldConvBN"]


class FoldConvBN(FoldPass):
    """A ConvBN pair -> a convolution with bias in its place. Runs after the folds that consume pairs themselves."""

    name = "conv-bn"
    block = ConvBN

    def blocks(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Parents of pairs, since a pair is replaced in its parent; a folded pair is a plain convolution, not seen."""
        return (
            (name, module)
            for name, module in model.named_modules()
            if any(isinstance(child, ConvBN) for child in module.children())
        )

    def pending(self, module: nn.Module) -> bool:
        return True

    def apply(self, model: nn.Module) -> int:
        pairs = sum(isinstance(module, ConvBN) for module in model.modules())
        super().apply(model)
        return pairs

    def fold(self, module: nn.Module) -> None:
        for name, child in list(module.named_children()):
            if isinstance(child, ConvBN):
                kernel, bias = fold_conv_bn(child)
                conv = child.conv
                folded = convolution(
                    kernel, bias, conv.weight, stride=conv.stride, padding=conv.padding, groups=conv.groups
                )
                setattr(module, name, folded)
