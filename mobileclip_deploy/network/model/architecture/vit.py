"""ViT image towers: MobileCLIP-B's with a convolutional stem, plain patch embeddings (ViT-L/14, OpenAI's B/16),
PE-Core's with rotary positions and attention pooling. Also SigLIP2's, pooled by attention and without a class
token."""

import torch
from torch import Tensor, nn

from mobileclip_deploy.network.model.architecture.attention import AttentionPool, TransformerBlock, rotary_turns
from mobileclip_deploy.network.model.architecture.mobileone import ConvBN
from mobileclip_deploy.network.model.variants import ViTTower


def convolutional_stem(width: int, padding: int) -> nn.Sequential:
    """Builds patches of 16 x 16 by strides 4, 2, 2 (arXiv 2106.14881). Apple pads the first convolution by 1, timm by
    0."""
    inner = width // 4
    return nn.Sequential(
        ConvBN(3, inner, (4, 4), 4, groups=1, padding=padding),
        nn.GELU(),
        ConvBN(inner, inner, (2, 2), 2, groups=1, padding=0),
        nn.GELU(),
        nn.Conv2d(inner, width, 2, 2),  # the last one keeps its bias: no BatchNorm follows
    )


class ViT(nn.Module):
    """Image tower: normalised image [N, 3, S, S] -> embedding [N, D], not normalised. It is that of the class token, or
    pooled by attention."""

    class_token: Tensor | None
    cosines: Tensor | None
    sines: Tensor | None

    def __init__(self, spec: ViTTower, embed_dim: int, image_size: int) -> None:
        super().__init__()
        width = spec.width
        if spec.stem == "convolutional":
            self.stem: nn.Module = convolutional_stem(width, spec.stem_padding)
        else:
            self.stem = nn.Conv2d(3, width, spec.patch, spec.patch, bias=spec.stem_bias)
        patches = (image_size // spec.patch) ** 2
        self.class_token_position = spec.class_token_position
        self.class_token = nn.Parameter(torch.zeros(width)) if spec.class_token else None  # [C]
        self.positional_embedding = nn.Parameter(torch.zeros(patches + spec.class_token_position, width))
        self.pre_norm = nn.LayerNorm(width, eps=spec.norm_eps) if spec.pre_norm else nn.Identity()
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(width, spec.heads, spec.mlp_ratio, spec.norm_eps, spec.activation)
                for _ in range(spec.depth)
            )
        )
        self.final_norm = nn.LayerNorm(width, eps=spec.norm_eps)
        pooled = spec.pooling == "attention"
        pool = AttentionPool(width, spec.pooling_heads, spec.mlp_ratio, spec.norm_eps, spec.activation)
        self.pool = pool if pooled else None
        turns: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
        if spec.rotary_grid is not None:
            with torch.device("cpu"):  # even if the rest is built on the meta device: no checkpoint holds them
                side, size = image_size // spec.patch, width // spec.heads
                turns = rotary_turns(side, spec.rotary_grid, size, skipped=int(spec.class_token))
        self.register_buffer("cosines", turns[0], persistent=False)
        self.register_buffer("sines", turns[1], persistent=False)
        projection = nn.Linear(width, embed_dim, bias=spec.projection_bias)
        self.projection = projection if spec.projection else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)  # [N, patches, C]
        if self.class_token is None:
            tokens = tokens + self.positional_embedding
        elif self.class_token_position:
            class_token = self.class_token.expand(tokens.shape[0], 1, -1)
            tokens = torch.cat((class_token, tokens), dim=1) + self.positional_embedding
        else:
            class_token = self.class_token.expand(tokens.shape[0], 1, -1)
            tokens = torch.cat((class_token, tokens + self.positional_embedding), dim=1)
        tokens = self.pre_norm(tokens)
        turns = None if self.cosines is None or self.sines is None else (self.cosines, self.sines)
        for block in self.blocks:
            tokens = block(tokens, None, turns)
        if self.pool is not None:
            return self.projection(self.pool(self.final_norm(tokens)))
        return self.projection(self.final_norm(tokens[:, 0]))  # the class token alone carries the embedding
