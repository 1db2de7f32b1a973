"""Fold: the BatchNorm before attention into the query-key-value projection.

A standalone BatchNorm is y = scale * x + shift. Its only reader is a linear layer, so W (scale * x + shift) =
(W diag(scale)) x + W shift: the norm disappears, where converters would keep it, since a reshape stands between.
"""

from __future__ import annotations

from torch import nn

from mobileclip_deploy.folding.arithmetic import batch_norm_affine
from mobileclip_deploy.folding.fold_pass import FoldPass
from mobileclip_deploy.model.architecture.attention import AttentionBlock

__all__ = ["FoldAttentionNorm"]


class FoldAttentionNorm(FoldPass):
    """BatchNorm -> the weight and a new bias of `qkv`. Blocks with LayerNorm (MCi3, MCi4) are left as they are."""

    name = "attention-norm"
    block = AttentionBlock

    def pending(self, module: nn.Module) -> bool:
        return isinstance(module.norm, nn.BatchNorm2d)

    def folded(self, module: nn.Module) -> bool:
        return isinstance(module.norm, nn.Identity)

    def fold(self, module: nn.Module) -> None:
        assert isinstance(module, AttentionBlock)
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
