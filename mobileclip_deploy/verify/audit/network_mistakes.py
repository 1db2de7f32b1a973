"""Usual mistakes of converted networks: changes of the checkpoint's own, whose embeddings a file may reproduce.

So a mistake is found without reading the file's graph, in any format and at any precision.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mobileclip_deploy.network.model.architecture.attention import (
    AttentionBlock,
    FeatureMapAttention,
    QuickGELU,
    SelfAttention,
)
from mobileclip_deploy.network.model.architecture.fastvit import MCi
from mobileclip_deploy.network.model.architecture.mobileone import LargeKernelConv, MobileOneBlock, SqueezeExcite
from mobileclip_deploy.network.model.architecture.repmixer import RepCPE, RepMixer, RepMixerBlock
from mobileclip_deploy.network.model.architecture.text import MASKED, TextTransformer
from mobileclip_deploy.verify.audit.mistakes import Mistake, Recipe

Patches = list[tuple[Any, str, Any]]
"""Object, attribute and its value while a changed network runs."""
ACTIVATIONS = (
    ("gelu-tanh", "GELU's tanh form", nn.GELU(approximate="tanh")),
    ("gelu-exact", "GELU's exact form", nn.GELU()),
    ("quick-gelu", "QuickGELU", QuickGELU()),
    ("relu", "ReLU", nn.ReLU()),
    ("silu", "SiLU", nn.SiLU()),
)


@contextlib.contextmanager
def changed(recipe: Recipe) -> Iterator[None]:
    """Changes the network for the block, if the recipe has a mistake of it."""
    patches: Patches = recipe["network"].apply if "network" in recipe else []
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _forward(owner: Any, compute: Callable[..., Any]) -> tuple[Any, str, Any]:
    return owner, "forward", compute


def _same(x: Tensor) -> Tensor:
    return x


class _Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


def _branches(tower: nn.Module) -> Iterator[tuple[str, str, str, Patches]]:
    """Yields each branch that can be left out of a fold: kind, words, block, and the change."""
    for name, block in tower.named_modules():
        if isinstance(block, MobileOneBlock) and block.conv is None:
            if block.scale is not None:
                yield "scale-branch", "the 1 x 1 scale branch", name, [(block, "scale", None)]
            if block.skip is not None and (len(block.branches) or block.scale is not None):
                yield "skip-branch", "the BatchNorm skip branch", name, [(block, "skip", None)]
            if len(block.branches) and (block.scale is not None or block.skip is not None):
                yield "kernel-branch", "the k x k branch", name, [(block, "branches", nn.ModuleList())]
        elif isinstance(block, LargeKernelConv) and block.small is not None:
            yield "small-kernel", "the small kernel's branch", name, [(block, "small", _Nothing())]
            yield "large-kernel", "the large kernel's branch", name, [(block, "large", _Nothing())]
        elif isinstance(block, RepMixer) and block.norm is not None:
            yield "mixer-norm", "the RepMixer's norm branch", name, [(block, "norm", _Nothing())]
            yield "mixer-branch", "the RepMixer's mixer branch", name, [(block, "mixer", _Nothing())]
        elif isinstance(block, RepCPE) and block.pe is not None:
            skip = "the skip connection of the positional encoding"
            yield "position-skip", skip, name, [_forward(block, block.pe.__call__)]
            yield "position", "the positional encoding", name, [_forward(block, _same)]


def block_changes(tower: nn.Module) -> Iterator[Mistake]:
    """Yields each branch left out of the fold of a single block."""
    for kind, words, block, patches in _branches(tower):
        yield Mistake("network", f"{words} left out of the fold of {block}", patches, f"branch:{kind}")


def network_changes(tower: nn.Module, eot: int, context: int) -> Iterator[Mistake]:
    """Yields the mistakes of a tower, each in all blocks at once. A text tower takes `context` ids and ends a text with
    `eot`."""
    rows = _of_text(tower, eot, context) if isinstance(tower, TextTransformer) else _of_image(tower)
    for name, text, patches in (*_of_both(tower), *rows):
        if patches:
            yield Mistake("network", text, patches, name)


def _of_both(tower: nn.Module) -> Iterator[tuple[str, str, Patches]]:
    """Yields name, words and change of each mistake that both kinds of towers have; without a change if a tower has no
    such part."""
    modules = list(tower.modules())
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
    modes = [change for norm in norms for change in ((norm, "training", True), (norm, "momentum", 0.0))]
    yield "batch-norm-training", "BatchNorm in training mode", modes
    for eps in (1e-3, 0.0):
        yield "batch-norm-epsilon", f"BatchNorm's epsilon {eps:g}", [(norm, "eps", eps) for norm in norms]
    layer_norms = [module for module in modules if isinstance(module, nn.LayerNorm)]
    for eps in (1e-3, 1e-5, 1e-6, 1e-12):
        if layer_norms and layer_norms[0].eps != eps:
            text = f"LayerNorm's epsilon {eps:g} instead of {layer_norms[0].eps:g}"
            yield "layer-norm-epsilon", text, [(norm, "eps", eps) for norm in layer_norms]
    activations = [module for module in modules if isinstance(module, nn.GELU | QuickGELU)]
    for name, words, kind in ACTIVATIONS:
        if activations and repr(activations[0]) != repr(kind):
            yield name, f"{words} as activation", [_forward(module, kind.__call__) for module in activations]
    scaled = [module for module in modules if isinstance(module, RepMixer | RepMixerBlock | AttentionBlock)]
    names = ("layer_scale", "layer_scale_1", "layer_scale_2")
    scales = [(block, name, getattr(block, name, None)) for block in scaled for name in names]
    ones: Patches = [(block, name, _fixed(torch.ones_like(old))) for block, name, old in scales if old is not None]
    yield "layer-scale", "layer scale left out", ones
    attention = [module for module in modules if isinstance(module, FeatureMapAttention | SelfAttention)]
    yield "one-head", "attention with one head", [(module, "heads", 1) for module in attention]
    larger: Patches = [(module.qkv, "weight", _unscaled(module)) for module in attention]
    yield "attention-scale", "attention that is not scaled", larger
    gates = [_forward(module, _same) for module in modules if isinstance(module, SqueezeExcite)]
    yield "squeeze-excite", "squeeze-excite left out", gates
    joint: dict[tuple[str, str], Patches] = {}
    for kind_name, words, _, patches in _branches(tower):
        joint.setdefault((kind_name, words), []).extend(patches)
    for (kind_name, words), patches in joint.items():
        yield f"branch:{kind_name}", f"{words} left out of every fold", patches
    projection = getattr(tower, "projection", None)
    if isinstance(projection, nn.Linear):
        yield "projection-missing", "no projection", [(tower, "projection", nn.Identity())]
        weight = projection.weight.detach()  # of another shape: its columns read as rows
        turned = _fixed(weight.T.reshape(weight.shape))
        yield "projection-transposed", "the projection transposed", [(projection, "weight", turned)]


def _unscaled(attention: FeatureMapAttention | SelfAttention) -> nn.Parameter:
    """Returns the weight with queries larger by the root of a head's size."""
    width, weight = attention.qkv.in_features, attention.qkv.weight.detach()
    queries = (torch.arange(3 * width) < width)[:, None]
    return _fixed(torch.where(queries, weight * (width / attention.heads) ** 0.5, weight))


def _of_image(tower: nn.Module) -> Iterator[tuple[str, str, Patches]]:
    if isinstance(tower, MCi) and tower.projection is not None:
        text, project = "the largest value instead of the mean over positions", tower.projection
        largest = _forward(tower, lambda x: project(tower.expand(tower.stages(tower.stem(x))).amax((2, 3))))
        yield "pooling-max", text, [largest]


def _of_text(tower: TextTransformer, eot: int, context: int) -> Iterator[tuple[str, str, Patches]]:
    length = len(tower.positional_embedding)
    if tower.causal_mask is not None:
        yield "mask-missing", "no causal mask", [(tower, "causal_mask", None)]
    else:
        mask = torch.full((length, length), MASKED).triu(1)
        yield "mask-causal", "a causal mask that the checkpoint does not have", [(tower, "causal_mask", mask)]
    yield "final-norm-missing", "no last LayerNorm", [(tower, "final_norm", nn.Identity())]
    for count in (0, 16, 32, 64) if context == length else (0,):
        table = _fixed(tower.positional_embedding.detach() * (torch.arange(length) < count)[:, None])
        text = f"{count} of {length} positions, and zeros" if count else "no positions"
        yield "positions-cut" if count else "positions-missing", text, [(tower, "positional_embedding", table)]

    def end(ids: Tensor) -> Tensor:
        return (ids == eot).int().argmax(dim=-1)

    def pooled(choose: Callable[[Tensor, Tensor], Tensor], size: int = length) -> Patches:
        def forward(ids: Tensor) -> Tensor:
            return tower.projection(tower.final_norm(choose(tower.features(ids[:, :size], short=True), ids)))

        return [_forward(tower, forward)]

    def at(index: Callable[[Tensor], Tensor], size: int = length) -> Patches:
        return pooled(lambda x, ids: x[torch.arange(len(ids)), index(ids) % x.shape[1]], size)

    def mean_of_tokens(x: Tensor, ids: Tensor) -> Tensor:
        inside = (torch.arange(ids.shape[1])[None] <= end(ids)[:, None]).to(x.dtype)[..., None]
        return (x * inside).sum(1) / inside.sum(1)

    at_end = tower.pooling == "end_of_text"
    if context < length:
        cut = at(lambda ids: end(ids).clamp(max=context - 1) if at_end else 0 * end(ids) - 1, context)
        yield "positions-cut", f"{context} of {length} positions", cut
    if at_end:
        yield "pooling-last", "pooling at the last token instead of the end token", at(lambda ids: 0 * end(ids) - 1)
    else:
        yield "pooling-end", "pooling at the end token instead of the last token", at(end)
    yield "pooling-first", "pooling at the first token", at(lambda ids: 0 * end(ids))
    yield "pooling-before-end", "pooling one token before the end token", at(lambda ids: end(ids) - 1)
    yield "pooling-after-end", "pooling one token after the end token", at(lambda ids: end(ids) + 1)
    yield "pooling-mean", "pooling by the mean over all positions", pooled(lambda x, ids: x.mean(1))
    yield "pooling-mean-tokens", "pooling by the mean over tokens without padding", pooled(mean_of_tokens)
