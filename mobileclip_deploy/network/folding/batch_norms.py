"""Folds of a BatchNorm into a neighbouring layer: the convolution before it or the projection after it."""

from collections.abc import Iterator

from torch import nn

from mobileclip_deploy.network.folding.fold_pass import FoldPass, batch_norm_affine, convolution, fold_conv_bn
from mobileclip_deploy.network.model.architecture.attention import AttentionBlock
from mobileclip_deploy.network.model.architecture.mobileone import ConvBN


class FoldConvBN(FoldPass[nn.Module]):
    """A ConvBN pair outside the blocks with branches (feed-forward, ViT stem) -> a convolution with bias in its place.
    Runs after the folds that consume pairs themselves."""

    name = "conv-bn"
    block = ConvBN

    def blocks(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yields parents of pairs, since a pair is replaced in its parent. A folded pair is a plain convolution, which
        is not found."""
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


class FoldAttentionNorm(FoldPass[AttentionBlock]):
    """The BatchNorm before attention -> the weight and a new bias of `qkv`. Blocks with LayerNorm (MCi3, MCi4) are left
    as they are.

    A standalone BatchNorm is y = scale * x + shift. Its only reader is a linear layer, so W (scale * x + shift) = (W
    diag(scale)) x + W shift. The norm disappears; converters would keep it, since a reshape separates the two.
    """

    name = "attention-norm"
    block = AttentionBlock

    def pending(self, module: AttentionBlock) -> bool:
        return isinstance(module.norm, nn.BatchNorm2d)

    def folded(self, module: AttentionBlock) -> bool:
        return isinstance(module.norm, nn.Identity)

    def fold(self, module: AttentionBlock) -> None:
        assert isinstance(module.norm, nn.BatchNorm2d)
        scale, shift = batch_norm_affine(module.norm)
        qkv = module.token_mixer.qkv
        weight = qkv.weight.double()
        folded = nn.Linear(qkv.in_features, qkv.out_features, device="meta", dtype=qkv.weight.dtype)
        # [3C, C] * [C]: column j reads channel j, which the norm had scaled. The bias is [3C, C] @ [C] -> [3C].
        folded.weight = nn.Parameter((weight * scale).detach().to(qkv.weight.dtype), requires_grad=False)
        folded.bias = nn.Parameter((weight @ shift).detach().to(qkv.weight.dtype), requires_grad=False)
        module.token_mixer.qkv = folded.eval()
        module.norm = nn.Identity().eval()
