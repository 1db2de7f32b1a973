"""Causes of wrong files: each is a change of the checkpoint's own network, whose embeddings a file may reproduce.

A cause is named if the changed network reproduces a file's embeddings and the unchanged one does not. So it is found
without reading the file's graph, in any format and at any precision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mobileclip_deploy.network.inputs import normalize
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
from mobileclip_deploy.network.model.variants import Preprocess
from mobileclip_deploy.verify.foreign.conventions import BYTES, ENCODINGS, UNIT

Embed = Callable[[Tensor], Tensor]
Patches = list[tuple[Any, str, Any]]
"""Object, attribute and its value while a changed network runs."""

FORWARD = "forward"


@dataclass(frozen=True, eq=False)
class Cause:
    """One way in which a file differs from its checkpoint.

    Attributes:
        name: identifier of the cause, the same in every version.
        text: the cause in words, as the end of a sentence.
        patches: changes of the network.
        embed: how it embeds inputs; None for the tower's own way.
        forms: names of the encodings of pictures with which it is tried; empty for all.
    """

    name: str
    text: str
    patches: Patches = field(default_factory=list)
    embed: Embed | None = None
    forms: tuple[str, ...] = ()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Changes the network for the block."""
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in self.patches]
        try:
            for owner, name, value in self.patches:
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)


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
            yield "position-skip", skip, name, [(block, FORWARD, block.pe.__call__)]
            yield "position", "the positional encoding", name, [(block, FORWARD, _same)]


def _same(x: Tensor) -> Tensor:
    return x


class _Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(())


def network_causes(tower: nn.Module) -> Iterator[Cause]:
    """Yields the causes that both kinds of towers have, each in all blocks at once."""
    modules = dict(tower.named_modules())
    norms = [module for module in modules.values() if isinstance(module, nn.BatchNorm2d)]
    if norms:
        yield Cause("batch-norm-training", "BatchNorm in training mode", [
            change for norm in norms for change in ((norm, "training", True), (norm, "momentum", 0.0))
        ])  # fmt: skip
        for eps in (1e-3, 0.0):
            yield Cause("batch-norm-epsilon", f"BatchNorm's epsilon {eps:g}", [(norm, "eps", eps) for norm in norms])
    layer_norms = [module for module in modules.values() if isinstance(module, nn.LayerNorm)]
    for eps in (1e-3, 1e-5, 1e-6, 1e-12):
        if layer_norms and layer_norms[0].eps != eps:
            changes: Patches = [(norm, "eps", eps) for norm in layer_norms]
            yield Cause("layer-norm-epsilon", f"LayerNorm's epsilon {eps:g} instead of {layer_norms[0].eps:g}", changes)
    for name, words, kind in (
        ("gelu-tanh", "GELU's tanh form", nn.GELU(approximate="tanh")),
        ("gelu-exact", "GELU's exact form", nn.GELU()),
        ("quick-gelu", "QuickGELU", QuickGELU()),
        ("relu", "ReLU", nn.ReLU()),
        ("silu", "SiLU", nn.SiLU()),
    ):
        activations = [module for module in modules.values() if isinstance(module, nn.GELU | QuickGELU)]
        if activations and repr(activations[0]) != repr(kind):
            yield Cause(name, f"{words} as activation", [(module, FORWARD, kind.__call__) for module in activations])
    scales = [
        (block, name)
        for block in modules.values()
        for name in ("layer_scale", "layer_scale_1", "layer_scale_2")
        if isinstance(block, RepMixer | RepMixerBlock | AttentionBlock) and getattr(block, name, None) is not None
    ]
    if scales:
        ones: Patches = [(block, name, _ones(getattr(block, name))) for block, name in scales]
        yield Cause("layer-scale", "layer scale left out", ones)
    attention = [module for module in modules.values() if isinstance(module, FeatureMapAttention | SelfAttention)]
    if attention:
        yield Cause("one-head", "attention with one head", [(module, "heads", 1) for module in attention])
        larger: Patches = [(module.qkv, "weight", _unscaled(module)) for module in attention]
        yield Cause("attention-scale", "attention that is not scaled", larger)
    gates = [module for module in modules.values() if isinstance(module, SqueezeExcite)]
    if gates:
        yield Cause("squeeze-excite", "squeeze-excite left out", [(gate, FORWARD, _same) for gate in gates])
    joint: dict[tuple[str, str], Patches] = {}
    for kind_name, words, _, patches in _branches(tower):
        joint.setdefault((kind_name, words), []).extend(patches)
    for (kind_name, words), patches in joint.items():
        yield Cause(f"branch:{kind_name}", f"{words} left out of every fold", patches)
    projection = getattr(tower, "projection", None)
    if isinstance(projection, nn.Linear):
        yield Cause("projection-missing", "no projection", [(tower, "projection", nn.Identity())])
        weight = projection.weight.detach()  # of another shape: its columns read as rows
        turned = nn.Parameter(weight.T.reshape(weight.shape), requires_grad=False)
        yield Cause("projection-transposed", "the projection transposed", [(projection, "weight", turned)])


def block_causes(tower: nn.Module) -> Iterator[Cause]:
    """Yields each branch left out of the fold of a single block."""
    for kind, words, block, patches in _branches(tower):
        yield Cause(f"branch:{kind}", f"{words} left out of the fold of {block}", patches)


def _unscaled(attention: FeatureMapAttention | SelfAttention) -> nn.Parameter:
    """Returns the weight with queries larger by the root of a head's size."""
    width = attention.qkv.in_features
    queries = (torch.arange(3 * width) < width)[:, None]
    weight = attention.qkv.weight.detach()
    return nn.Parameter(torch.where(queries, weight * (width / attention.heads) ** 0.5, weight), requires_grad=False)


def _ones(scale: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.ones_like(scale), requires_grad=False)


def image_causes(tower: nn.Module, spec: Preprocess) -> Iterator[Cause]:
    """Yields the causes of an image tower. `embed` takes pixels in [0, 1]."""
    embed = partial(_normalised, tower, spec)
    yield from network_causes(tower)
    for encoding in ENCODINGS[2:5]:
        if (spec.mean, spec.std) == (encoding.mean, encoding.std):
            text = "mean and std applied twice"
        elif (spec.mean, spec.std) == (UNIT.mean, UNIT.std):
            text = f"pixels normalised inside by {encoding.name}, which the checkpoint does not expect"
        else:
            continue
        extra = spec.model_copy(update={"mean": encoding.mean, "std": encoding.std})
        # With an encoding that normalises alike the two would cancel out.
        forms = (UNIT.name, BYTES.name)
        yield Cause("normalised-inside", text, embed=partial(_normalised, embed, extra), forms=forms)
    yield Cause("range", "pixels divided by 255 twice", embed=lambda pixels: embed(pixels / 255), forms=(BYTES.name,))
    yield Cause("rows-columns", "rows and columns exchanged", embed=lambda pixels: embed(pixels.transpose(2, 3)))
    if isinstance(tower, MCi) and tower.projection is not None:
        text, project = "the largest value instead of the mean over positions", tower.projection
        largest = [(tower, FORWARD, lambda x: project(tower.expand(tower.stages(tower.stem(x))).amax((2, 3))))]
        yield Cause("pooling-max", text, largest)


def _normalised(embed: Embed, spec: Preprocess, pixels: Tensor) -> Tensor:
    return embed(normalize(pixels, spec))


def text_causes(tower: TextTransformer, eot: int, context: int) -> Iterator[Cause]:
    """Yields the causes of a text tower that takes `context` ids. `embed` takes ids [N, L] of the card's tokenizer."""
    yield from network_causes(tower)
    length = len(tower.positional_embedding)
    if tower.causal_mask is not None:
        yield Cause("mask-missing", "no causal mask", [(tower, "causal_mask", None)])
    else:
        mask = torch.full((length, length), MASKED).triu(1)
        yield Cause("mask-causal", "a causal mask that the checkpoint does not have", [(tower, "causal_mask", mask)])
    yield Cause("final-norm-missing", "no last LayerNorm", [(tower, "final_norm", nn.Identity())])
    for count in (0, 16, 32, 64) if context == length else (0,):
        table = tower.positional_embedding.detach() * (torch.arange(length) < count)[:, None]
        changes: Patches = [(tower, "positional_embedding", nn.Parameter(table, requires_grad=False))]
        text = f"{count} of {length} positions, and zeros" if count else "no positions"
        yield Cause("positions-cut" if count else "positions-missing", text, changes)

    def pooled(choose: Callable[[Tensor, Tensor], Tensor]) -> Embed:
        return lambda ids: tower.projection(tower.final_norm(choose(tower.features(ids), ids)))

    def at(index: Callable[[Tensor], Tensor]) -> Embed:
        return pooled(lambda x, ids: x[torch.arange(len(ids)), index(ids) % ids.shape[1]])

    def end(ids: Tensor) -> Tensor:
        return (ids == eot).int().argmax(dim=-1)

    if context < length:

        def cut(ids: Tensor) -> Tensor:
            x, last = tower.features(ids[:, :context], short=True), context - 1
            index = end(ids).clamp(max=last) if tower.pooling == "end_of_text" else 0 * end(ids) + last
            return tower.projection(tower.final_norm(x[torch.arange(len(ids)), index]))

        yield Cause("positions-cut", f"{context} of {length} positions", embed=cut)
    last = at(lambda ids: 0 * end(ids) - 1)
    if tower.pooling == "end_of_text":
        yield Cause("pooling-last", "pooling at the last token instead of the end token", embed=last)
    else:
        yield Cause("pooling-end", "pooling at the end token instead of the last token", embed=at(end))
    yield Cause("pooling-first", "pooling at the first token", embed=at(lambda ids: 0 * end(ids)))
    yield Cause("pooling-before-end", "pooling one token before the end token", embed=at(lambda ids: end(ids) - 1))
    yield Cause("pooling-after-end", "pooling one token after the end token", embed=at(lambda ids: end(ids) + 1))
    yield Cause("pooling-mean", "pooling by the mean over all positions", embed=pooled(lambda x, ids: x.mean(1)))

    def mean_of_tokens(x: Tensor, ids: Tensor) -> Tensor:
        inside = (torch.arange(ids.shape[1])[None] <= end(ids)[:, None]).to(x.dtype)[..., None]
        return (x * inside).sum(1) / inside.sum(1)

    yield Cause("pooling-mean-tokens", "pooling by the mean over tokens without padding", embed=pooled(mean_of_tokens))
