"""MCi image towers: FastViT (arXiv 2303.14189) as in MobileCLIP (arXiv 2311.17049, 2508.20691)."""

from torch import Tensor, nn

from mobileclip_deploy.network.model.architecture.attention import AttentionBlock
from mobileclip_deploy.network.model.architecture.mobileone import LargeKernelConv, MobileOneBlock
from mobileclip_deploy.network.model.architecture.repmixer import RepCPE, RepMixerBlock
from mobileclip_deploy.network.model.variants import MCiTower


class PatchEmbedding(nn.Sequential):
    """Patch embedding that halves height and width between stages: [N, C, H, W] -> [N, C', H/2, W/2]."""

    def __init__(self, cin: int, cout: int, squeeze_excite: bool) -> None:
        # The reduction is timm's: a quarter of the channels, in multiples of eight.
        squeeze = max(8, (cout // 4 + 4) // 8 * 8) if squeeze_excite else None
        large = LargeKernelConv(cin, cout, squeeze=squeeze)
        super().__init__(large, MobileOneBlock(cout, cout, (1, 1)))


class Stage(nn.Module):
    """Patch embedding (none before the first stage), positional encoding if the card has one, blocks."""

    def __init__(self, spec: MCiTower, index: int) -> None:
        super().__init__()
        width, ratio = spec.widths[index], spec.mlp_ratios[index]
        self.downsample: nn.Module = nn.Identity()
        if index:
            before, squeeze = spec.widths[index - 1], spec.squeeze_excite[index]
            self.downsample = PatchEmbedding(before, width, squeeze)
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
    """Image tower: normalised image [N, 3, S, S] -> embedding [N, D], not normalised. S is a multiple of 2 ** (stages +
    1)."""

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
        self.projection = nn.Linear(features, embed_dim, bias=spec.projection_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(self.stages(self.stem(x)))  # [N, features, S / 2 ** (stages + 1), the same]
        # The mean over positions makes the tower independent of S: it also runs at image sizes it was not trained at.
        return self.projection(x.mean((2, 3)))
