"""The towers of a network before they are exported.

Images: MCi, which is FastViT (arXiv 2303.14189) as MobileCLIP (arXiv 2311.17049, 2508.20691) uses it; ViT,
MobileCLIP-B's with a convolutional stem, or with plain patch embeddings (ViT-L/14, OpenAI's B/16). Texts: `base`, a
transformer (causal or not), and `mct`, the same between two RepMixer blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobileclip_deploy.model.architecture.attention import AttentionBlock, TransformerBlock
from mobileclip_deploy.model.architecture.blocks import ConvBN, LargeKernelConv, MobileOneBlock, RepCPE, RepMixerBlock
from mobileclip_deploy.model.variants import MCiTower, TextTowerSpec, TokenizerSpec, ViTTower

__all__ = ["MCi", "TextTransformer", "ViT"]


class PatchEmbedding(nn.Sequential):
    """Halves height and width between stages: [N, C, H, W] -> [N, C', H/2, W/2]."""

    def __init__(self, cin: int, cout: int, squeeze_excite: bool, activation: bool) -> None:
        # The reduction is timm's: a quarter of the channels, in multiples of eight.
        squeeze = max(8, (cout // 4 + 4) // 8 * 8) if squeeze_excite else None
        large = LargeKernelConv(cin, cout, squeeze=squeeze, activation=activation)
        super().__init__(large, MobileOneBlock(cout, cout, (1, 1)))


class Stage(nn.Module):
    """Patch embedding (none before the first stage), positional encoding where the card has one, blocks."""

    def __init__(self, spec: MCiTower, index: int) -> None:
        super().__init__()
        width, ratio = spec.widths[index], spec.mlp_ratios[index]
        self.downsample: nn.Module = nn.Identity()
        if index:
            before, squeeze = spec.widths[index - 1], spec.squeeze_excite[index]
            self.downsample = PatchEmbedding(before, width, squeeze, spec.patch_activation)
        self.position = RepCPE(width) if spec.positional[index] else nn.Identity()
        blocks: list[nn.Module] = []
        for _ in range(spec.depths[index]):
            if spec.mixers[index] == "repmixer":
                blocks.append(RepMixerBlock(width, ratio, (3, 3), (7, 7)))
            else:
                blocks.append(AttentionBlock(width, ratio, spec.attention_norm, spec.head_dim))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.position(self.downsample(x)))


class MCi(nn.Module):
    """Normalised image [N, 3, S, S] -> embedding [N, D], not normalised. S is a multiple of 2 ** (stages + 1).

    Where the card says `pooled: false`, what is before pooling: a token a place, row by row, [N, T, D].
    """

    def __init__(self, spec: MCiTower, embed_dim: int) -> None:
        super().__init__()
        width, last, features = spec.widths[0], spec.widths[-1], spec.features
        scale = spec.stem_scale_branch
        self.stem = nn.Sequential(
            MobileOneBlock(3, width, (3, 3), stride=2, scale_branch=scale),  # [N, 3, S, S] -> [N, C, S/2, S/2]
            MobileOneBlock(width, width, (3, 3), stride=2, groups=width, scale_branch=scale),  # -> [N, C, S/4, S/4]
            MobileOneBlock(width, width, (1, 1)),
        )
        self.stages = nn.Sequential(*(Stage(spec, index) for index in range(len(spec.depths))))
        self.expand = MobileOneBlock(last, features, (3, 3), groups=last, squeeze=features // 16)
        self.projection = nn.Linear(features, embed_dim, bias=spec.projection_bias) if spec.pooled else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(self.stages(self.stem(x)))  # [N, features, S / 2 ** (stages + 1), the same]
        if self.projection is None:
            return x.flatten(2).transpose(1, 2)  # [N, D, H, W] -> [N, H * W, D]
        # The mean over positions makes the tower independent of S: it runs at image sizes it was not trained at.
        return self.projection(x.mean((2, 3)))


def convolutional_stem(width: int, padding: int) -> nn.Sequential:
    """Patches of 16 x 16 by strides 4, 2, 2 (arXiv 2106.14881). Apple pads the first convolution by 1, timm by 0."""
    inner = width // 4
    return nn.Sequential(
        ConvBN(3, inner, (4, 4), 4, groups=1, padding=padding),
        nn.GELU(),
        ConvBN(inner, inner, (2, 2), 2, groups=1, padding=0),
        nn.GELU(),
        nn.Conv2d(inner, width, 2, 2),  # the last one keeps its bias: no BatchNorm follows
    )


class ViT(nn.Module):
    """Normalised image [N, 3, S, S] -> embedding [N, D] of the class token, not normalised."""

    def __init__(self, spec: ViTTower, embed_dim: int, image_size: int) -> None:
        super().__init__()
        width = spec.width
        if spec.stem == "convolutional":
            self.stem: nn.Module = convolutional_stem(width, spec.stem_padding)
        else:
            self.stem = nn.Conv2d(3, width, spec.patch, spec.patch, bias=False)
        patches = (image_size // spec.patch) ** 2
        self.class_token_position = spec.class_token_position
        self.class_token = nn.Parameter(torch.zeros(width))  # [C]
        self.positional_embedding = nn.Parameter(torch.zeros(patches + spec.class_token_position, width))
        self.pre_norm = nn.LayerNorm(width, eps=spec.norm_eps) if spec.pre_norm else nn.Identity()
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(width, spec.heads, spec.mlp_ratio, spec.norm_eps, spec.activation)
                for _ in range(spec.depth)
            )
        )
        self.final_norm = nn.LayerNorm(width, eps=spec.norm_eps)
        self.projection = nn.Linear(width, embed_dim, bias=spec.projection_bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # [N, patches, C]
        class_token = self.class_token.expand(tokens.shape[0], 1, -1)
        if self.class_token_position:
            tokens = torch.cat((class_token, tokens), dim=1) + self.positional_embedding
        else:
            tokens = torch.cat((class_token, tokens + self.positional_embedding), dim=1)
        tokens = self.blocks(self.pre_norm(tokens))
        return self.projection(self.final_norm(tokens[:, 0]))  # the class token alone carries the embedding


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
    """Token ids [N, L] -> embedding [N, D] taken at the first end-of-text token, not normalised."""

    causal_mask: Tensor | None

    def __init__(self, spec: TextTowerSpec, tokenizer: TokenizerSpec, embed_dim: int) -> None:
        super().__init__()
        width, length = spec.width, tokenizer.context_length
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
        self.projection = nn.Linear(width, embed_dim, bias=False)
        # On the CPU even when the rest is built on the meta device: no checkpoint holds it.
        mask = torch.full((length, length), MASKED, device="cpu").triu(1) if spec.causal else None
        self.register_buffer("causal_mask", mask, persistent=False)

    def features(self, ids: Tensor, short: bool = False) -> Tensor:
        """Token ids [N, L] -> features of every token [N, L, C], before the last norm.

        Args:
            short: L may be below the context length. Of a causal tower the features of what is there stay the same.
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
        # The end-of-text token has the largest id of the vocabulary, so argmax finds its first occurrence.
        rows = torch.arange(ids.shape[0], device=ids.device)
        pooled = self.features(ids)[rows, ids.argmax(dim=-1)]  # [N, C]
        return self.projection(self.final_norm(pooled))
