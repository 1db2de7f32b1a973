"""Faults of conversions, each a change of the unfolded torch network before it is converted."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.architecture.attention import (
    AttentionBlock,
    FeatureMapAttention,
    QuickGELU,
    SelfAttention,
    TransformerBlock,
)
from mobileclip_deploy.network.model.architecture.mobileone import LargeKernelConv, MobileOneBlock, SqueezeExcite
from mobileclip_deploy.network.model.architecture.repmixer import RepCPE, RepMixer, RepMixerBlock
from mobileclip_deploy.network.model.architecture.text import MASKED, TextTransformer
from mobileclip_deploy.network.model.tokenizer import encode

Fault = Callable[[MobileCLIP], None]


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class StridedZero(nn.Module):
    """A branch left out of a convolution of another size."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) * 0


class BatchStatistics(nn.Module):
    """BatchNorm as in training, by operations that every converter has."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        normal = (x - mean) / (variance + self.eps).sqrt()
        return normal * self.weight[None, :, None, None] + self.bias[None, :, None, None]


class Before(nn.Module):
    """A change of the input, then the tower."""

    def __init__(self, tower: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.tower, self.change = tower, change

    def forward(self, x: Tensor) -> Tensor:
        return self.tower(self.change(x))


class Patched(nn.Module):
    """A module with another forward."""

    def __init__(self, inner: nn.Module, compute: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.compute = inner, compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self.inner, x)


def replaced(root: nn.Module, kind: type, make: Callable[[nn.Module], nn.Module]) -> None:
    for parent in [*root.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, kind):
                setattr(parent, name, make(child))


def of_kind(root: nn.Module, kind: type) -> Iterator[nn.Module]:
    return (module for module in root.modules() if isinstance(module, kind))


def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    means, stds = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return lambda x: (x - means) / stds


CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def other_weights(root: nn.Module, seed: int, share: float) -> None:
    """Adds noise of this share to every weight; 1: hardly more than noise is left."""
    generator = torch.Generator().manual_seed(seed)
    for value in root.parameters():
        if value.numel() > 1:
            noise = torch.randn(value.shape, generator=generator) * value.std()
            value.data = value.data * (1 - share) + noise * share


def rounded(root: nn.Module, bits: int) -> None:
    for value in root.parameters():
        if value.dim() > 1:
            step = value.abs().max() / (2 ** (bits - 1) - 1)
            value.data = (value / step).round() * step


def scale_of(root: nn.Module) -> None:
    for module in root.modules():
        for name in ("layer_scale", "layer_scale_1", "layer_scale_2"):
            if isinstance(getattr(module, name, None), nn.Parameter):
                setattr(module, name, nn.Parameter(torch.ones_like(getattr(module, name))))


def unscaled_attention(root: nn.Module) -> None:
    """Leaves the division by the root of the head's size out: queries are that much larger."""
    for module in root.modules():
        if isinstance(module, FeatureMapAttention | SelfAttention):
            width = module.qkv.in_features
            module.qkv.weight.data[:width] *= (width / module.heads) ** 0.5
            if module.qkv.bias is not None:
                module.qkv.bias.data[:width] *= (width / module.heads) ** 0.5


def other_heads(root: nn.Module) -> None:
    for module in root.modules():
        if isinstance(module, FeatureMapAttention | SelfAttention):
            module.heads = 1


def epsilon(root: nn.Module, kind: type, value: float) -> None:
    for norm in of_kind(root, kind):
        norm.eps = value  # type: ignore[assignment]


def unfolded_block(root: nn.Module, index: int) -> MobileOneBlock:
    blocks = [block for block in of_kind(root, MobileOneBlock) if block.branches and block.skip is not None]  # type: ignore[union-attr]
    assert isinstance(blocks[index], MobileOneBlock)
    return blocks[index]


def transposed(tower: nn.Module) -> None:
    weight = tower.projection.weight  # type: ignore[union-attr]
    columns = weight.T.contiguous().reshape(weight.shape)  # the file's rows read as columns
    weight.data = columns  # type: ignore[union-attr,assignment]


def without_residual(block: nn.Module, x: Tensor) -> Tensor:
    return block(x) - x


IMAGE: dict[str, Fault] = {
    "branch: scale": lambda m: setattr(next(b for b in of_kind(m.image, MobileOneBlock) if b.scale), "scale", None),
    "branch: skip": lambda m: setattr(unfolded_block(m.image, 0), "skip", None),
    "branch: skip of a later block": lambda m: setattr(unfolded_block(m.image, 2), "skip", None),
    "branch: small kernel": lambda m: replaced_small(m.image),
    "branch: mixer's norm": lambda m: setattr(next(of_kind(m.image, RepMixer)), "norm", Zero()),
    "BatchNorm in training mode": lambda m: replaced(m.image, nn.BatchNorm2d, BatchStatistics),
    "BatchNorm epsilon 1e-3": lambda m: epsilon(m.image, nn.BatchNorm2d, 1e-3),
    "GELU tanh": lambda m: replaced(m.image, nn.GELU, lambda _: nn.GELU(approximate="tanh")),
    "QuickGELU": lambda m: replaced(m.image, nn.GELU, lambda _: QuickGELU()),
    "ReLU": lambda m: replaced(m.image, nn.GELU, lambda _: nn.ReLU()),
    "projection transposed": lambda m: transposed(m.image),
    "layer scale dropped": lambda m: scale_of(m.image),
    "squeeze-excite dropped": lambda m: replaced(m.image, SqueezeExcite, lambda _: nn.Identity()),
    "CLIP's mean baked in": lambda m: setattr(m, "image", Before(m.image, normalised(*CLIP))),
    "ImageNet's mean baked in": lambda m: setattr(m, "image", Before(m.image, normalised(*IMAGENET))),
    "divided by 255 twice": lambda m: setattr(m, "image", Before(m.image, lambda x: x / 255)),
    "shifted by a pixel": lambda m: setattr(
        m, "image", Before(m.image, lambda x: F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:])
    ),
    "rows and columns exchanged": lambda m: setattr(m, "image", Before(m.image, lambda x: x.transpose(2, 3))),
    "attention not scaled": lambda m: unscaled_attention(m.image),
    "one head": lambda m: other_heads(m.image),
    "residual left out": lambda m: replaced(m.image, AttentionBlock, lambda b: Patched(b, without_residual)),
    "a block left out": lambda m: m.image.stages[2].blocks.__setitem__(1, nn.Identity()),
    "a bias dropped": lambda m: next(of_kind(m.image, RepMixerBlock)).ffn.fc2.bias.data.zero_(),
    "positional encoding left out": lambda m: replaced(m.image, RepCPE, lambda _: nn.Identity()),
    "two channels exchanged": lambda m: exchanged(m.image.projection.weight, 3, 77),
    "other weights": lambda m: other_weights(m.image, 1, 0.7),
    "weights trained on": lambda m: other_weights(m.image, 1, 0.02),
    "weights at 3 bits": lambda m: rounded(m.image, 3),
}
TEXT: dict[str, Fault] = {
    "causal mask where none is": lambda m: setattr(m.text, "causal_mask", torch.full((77, 77), MASKED).triu(1)),
    "pooled at the last token": lambda m: pooled(m, lambda ids: ids.argmax(-1) * 0 + ids.shape[1] - 1),
    "pooled at the first token": lambda m: pooled(m, lambda ids: ids.argmax(-1) * 0),
    "pooled before the end token": lambda m: pooled(m, lambda ids: ids.argmax(-1) - 1),
    "LayerNorm epsilon 1e-3": lambda m: epsilon(m.text, nn.LayerNorm, 1e-3),
    "BatchNorm epsilon 1e-3": lambda m: epsilon(m.text, nn.BatchNorm2d, 1e-3),
    "BatchNorm in training mode": lambda m: replaced(m.text, nn.BatchNorm2d, BatchStatistics),
    "GELU tanh": lambda m: replaced(m.text, nn.GELU, lambda _: nn.GELU(approximate="tanh")),
    "QuickGELU": lambda m: replaced(m.text, nn.GELU, lambda _: QuickGELU()),
    "projection transposed": lambda m: transposed(m.text),
    "layer scale dropped": lambda m: scale_of(m.text),
    "branch: mixer's norm": lambda m: setattr(next(of_kind(m.text, RepMixer)), "norm", Zero()),
    "positions left out": lambda m: m.text.positional_embedding.data.zero_(),
    "positions cut after 32": lambda m: m.text.positional_embedding.data[32:].zero_(),
    "positions shifted": lambda m: shifted(m.text),
    "two tokens exchanged": lambda m: exchanged(m.text.token_embedding.weight, *tokens_of("photo", "dog")),
    "token table off by one": lambda m: setattr(
        m.text.token_embedding.weight, "data", m.text.token_embedding.weight.data.roll(1, 0)
    ),
    "last LayerNorm left out": lambda m: setattr(m.text, "final_norm", nn.Identity()),
    "attention not scaled": lambda m: unscaled_attention(m.text),
    "one head": lambda m: other_heads(m.text),
    "a block left out": lambda m: m.text.blocks.__delitem__(1),
    "a bias dropped": lambda m: next(of_kind(m.text, SelfAttention)).proj.bias.data.zero_(),
    "other weights": lambda m: other_weights(m.text, 1, 0.7),
    "weights trained on": lambda m: other_weights(m.text, 1, 0.02),
    "weights at 3 bits": lambda m: rounded(m.text, 3),
}
"""Name -> change of a model, in place."""


def of_text(text: nn.Module, ids: Tensor) -> Tensor:
    """Pools every row at the end token of the first."""
    end = ids[0].argmax(-1)
    return text.projection(text.final_norm(text.features(ids).index_select(1, end.reshape(1))[:, 0]))  # type: ignore[operator]


def of_length_one(batch: Tensor) -> Tensor:
    return batch / (batch * batch).sum().sqrt()


ROWS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "rows reversed": lambda tower, x: tower(x).flip(0),
    "length of the whole batch": lambda tower, x: of_length_one(tower(x)),
    "first row for all": lambda tower, x: tower(x)[:1].expand(x.shape[0], -1),
    "later rows empty": lambda tower, x: tower(x) * (torch.arange(x.shape[0]) == 0)[:, None],
    "batch of one baked in": lambda tower, x: tower(x.reshape(1, *x.shape[1:])),
}
"""Name -> what a tower computes of a batch; each row alone is right."""
IMAGE_ROWS = ROWS | {
    "brightness of the batch": lambda tower, x: tower(x - x.mean((1, 2, 3), keepdim=True) + x.mean()),
}
TEXT_ROWS = ROWS | {"pooled at the first row's end": of_text}


def with_rows(tower: str, compute: Callable[[nn.Module, Tensor], Tensor]) -> Fault:
    return lambda m: setattr(m, tower, Patched(getattr(m, tower), compute))


IMAGE |= {name: with_rows("image", compute) for name, compute in IMAGE_ROWS.items()}
TEXT |= {name: with_rows("text", compute) for name, compute in TEXT_ROWS.items()}


Joint = tuple[Tensor, Tensor, Tensor, Tensor]
JOINT: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Joint]] = {
    "logit scale not exponentiated": lambda i, t, text, image: (i * 0.0872, t * 0.0872, text, image),
    "logit scale doubled": lambda i, t, text, image: (i * 2, t * 2, text, image),
    "logits after softmax": lambda i, t, text, image: (i.softmax(-1), t.softmax(-1), text, image),
    "logits of raw embeddings": lambda i, t, text, image: (43.19 * image @ text.T, 43.19 * text @ image.T, text, image),
    "logits_per_image and logits_per_text exchanged": lambda i, t, text, image: (t, i, text, image),
    "names of image_embeds and text_embeds exchanged": lambda i, t, text, image: (i, t, image, text),
    "text_embeds of the image": lambda i, t, text, image: (i, t, image * 1, image),
}
"""Name -> change of the outputs of a file with both towers: logits per image and per text, embeddings."""


def replaced_small(root: nn.Module) -> None:
    block = next(of_kind(root, LargeKernelConv))
    assert isinstance(block, LargeKernelConv)
    assert block.small is not None
    block.small = StridedZero(block.small)  # type: ignore[assignment]


def tokens_of(*words: str) -> tuple[int, ...]:
    return tuple(int(row[1]) for row in encode(list(words)))


def exchanged(weight: Tensor, first: int, second: int) -> None:
    weight.data[[first, second]] = weight.data[[second, first]]


def shifted(tower: nn.Module) -> None:
    position = tower.positional_embedding
    position.data = position.data.roll(1, 0)  # type: ignore[union-attr,assignment]


class PooledText(nn.Module):
    def __init__(self, text: TextTransformer, choose: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.text, self.choose = text, choose

    def forward(self, ids: Tensor) -> Tensor:
        rows = torch.arange(ids.shape[0])
        return self.text.projection(self.text.final_norm(self.text.features(ids)[rows, self.choose(ids)]))


def pooled(model: MobileCLIP, choose: Callable[[Tensor], Tensor]) -> None:
    assert isinstance(model.text, TextTransformer)
    model.text = PooledText(model.text, choose)  # type: ignore[assignment]


__all__ = ["IMAGE", "IMAGE_ROWS", "JOINT", "TEXT", "TEXT_ROWS", "Fault", "TransformerBlock"]
