"""Text towers: `base`, a transformer (causal or not), and `mct`, the same between two RepMixer blocks."""

import torch
from torch import Tensor, nn

from mobileclip_deploy.network.model.architecture.attention import TransformerBlock
from mobileclip_deploy.network.model.architecture.repmixer import RepMixerBlock
from mobileclip_deploy.network.model.variants import TextTowerSpec, TokenizerSpec

# Added to masked logits instead of -inf: exp() of it is 0 in float32 and float16 alike, and no converter's float16
# arithmetic makes a NaN of it.
MASKED = -1e4
MCT_KERNEL = (1, 11)
MCT_MLP_RATIO = 4.0


class SequenceRepMixerBlock(RepMixerBlock):
    """A RepMixer block with 1 x 11 kernels over a token sequence: [N, L, C] -> [N, L, C]."""

    def __init__(self, width: int) -> None:
        super().__init__(width, MCT_MLP_RATIO, MCT_KERNEL, MCT_KERNEL)

    def forward(self, x: Tensor) -> Tensor:
        # [N, L, C] -> [N, C, 1, L]: a sequence is an image of height 1, and the kernels are 1 x 11.
        return super().forward(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)


class TextTransformer(nn.Module):
    """Text tower: token ids [N, L] -> embedding [N, D], not normalised. The spec pools at the first end-of-text token,
    or at the last token of the context."""

    causal_mask: Tensor | None

    def __init__(self, spec: TextTowerSpec, tokenizer: TokenizerSpec, embed_dim: int) -> None:
        super().__init__()
        width, length = spec.width, tokenizer.context_length
        self.pooling = spec.pooling
        self.token_embedding = nn.Embedding(tokenizer.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.zeros(length, width))
        blocks: list[nn.Module] = [
            TransformerBlock(width, spec.heads, spec.mlp_ratio, spec.norm_eps, spec.activation)
            for _ in range(spec.depth)
        ]
        if spec.kind == "mct":
            blocks = [SequenceRepMixerBlock(width), *blocks, SequenceRepMixerBlock(width)]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(width, eps=spec.norm_eps)
        self.projection = nn.Linear(width, embed_dim, bias=spec.projection_bias)
        # On the CPU even if the rest is built on the meta device: no checkpoint holds it.
        mask = torch.full((length, length), MASKED, device="cpu").triu(1) if spec.causal else None
        self.register_buffer("causal_mask", mask, persistent=False)

    def features(self, ids: Tensor, short: bool = False) -> Tensor:
        """Returns features of every token [N, L, C], before the last norm, of token ids [N, L].

        Args:
            short: L may be below the context length. A causal tower's features of the present tokens stay the same.
        """
        length = ids.shape[1]
        position: Tensor = self.positional_embedding
        mask = self.causal_mask
        if short:
            position = position[:length]
            mask = None if mask is None else mask[:length, :length]
        x = self.token_embedding(ids) + position  # [N, L, C] + [L, C]
        for block in self.blocks:
            x = block(x, mask) if isinstance(block, TransformerBlock) else block(x)
        return x

    def forward(self, ids: Tensor) -> Tensor:
        if self.pooling == "last":
            return self.projection(self.final_norm(self.features(ids)[:, -1]))
        # The end-of-text token has the largest id of the vocabulary, so argmax finds its first occurrence.
        rows = torch.arange(ids.shape[0], device=ids.device)
        pooled = self.features(ids)[rows, ids.argmax(dim=-1)]  # [N, C]
        return self.projection(self.final_norm(pooled))
