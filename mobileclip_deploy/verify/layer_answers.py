"""What layers whose rounding was learned answer to the values that reach them, against rounding to the nearest.

Learned rounding leaves the nearest numbers so that a layer's answers stay. So these say whether it is one: an output
whose scale or whose integers are moved as a whole answers otherwise, however far learning has moved single numbers.
The tower is run once, on the stored inputs; no layer's values are kept.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.verify.matching import Matched

__all__ = ["LayerAnswers", "layer_answers", "steps"]

# Root mean squares of what an output's errors answer, in that of rounding to the nearest: the larger one of what its
# errors answer and of what they would if they had nothing to do with one another. The nearest may have luck with values
# that learning did not see, and answer less than chance makes it. By GPTQ nano's towers came to 2.0 where many values
# reach a layer, and to 3.7 where 16 do; S0's (golden-filled, learned from nano's calibration) to 1.5, and to 3.1 where
# an output has 11 numbers; they came to 5.9 times what the nearest answer.
REACH = 2.5
# How much nearer an output may come by moving all of its integers, or indices, by one: nano's came to 0.84, S0's to
# 0.79. Errors that answer no more than so many times what those of the nearest do are nearer or further by chance.
NEARER, BY_CHANCE = 0.7, 1.5
# How much of the answers themselves is in the errors' (by least squares), in the share that rounding to the nearest is
# of them: nano's 1.03 where many values reach a layer, 2.6 where 16 do; S0's 1.03, and 2.1 where an output has 11
# numbers. The same of blocks of inputs: 1.4 and 1.2. As a share of the answers, or of what they would be if its numbers
# had nothing to do with one another: nano's 0.07; a scale that is too small cuts numbers off, and the nearest are far
# away by it, too. Of a table that outputs share those of small numbers have no entries of their own: nothing is held
# there but what rounding to the nearest does.
ALONG, ALONG_BLOCK, ALONG_MOST = 1.6, 1.6, 0.16
# Few numbers of an output take up less of one another's errors, and chance makes more of them: bounds are wider by
# this, divided by their number.
FEW_NUMBERS = 8.0
# Few values say less of a layer than those that it learned from: bounds are wider by this, divided by their number.
FEW = 24.0
# What float32 rounds, as a share.
LEAST = 1e-6
# Positions of a map that are looked at, spread evenly, and inputs at a time.
POSITIONS, BATCH = 256, 4
# Numbers of layers that are looked at together: five weights of each are held.
AT_ONCE = 1 << 24

Outputs = npt.NDArray[np.intp]
WRONG, NEAREST, OWN, ABOVE, BELOW = range(5)


class LayerAnswers:
    """Sums over the values that reach a layer of what its outputs answer with five weights: the errors of the stored
    one, those of rounding to the nearest, the checkpoint's, and the steps from the stored numbers up and down."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, match: Matched, block: int | None) -> None:
        """Args: block: so many inputs share a scale; None: all."""
        values = match.wanted, match.stored.values, match.stored.nearest(match.wanted)
        wanted, stored, nearest = (torch.from_numpy(np.require(one, requirements="W")) for one in values)
        self._layer, self._block = layer, block or wanted.shape[1]
        self._most = ALONG_MOST if match.stored.kind == "integers" else math.inf
        above, below = steps(stored, self._block)
        parts = torch.stack([stored - wanted, nearest - wanted, wanted, above, below])
        self._parts = parts.reshape(-1, *layer.weight.shape[1:])  # [5 O, I / G, ...]
        self._squares = torch.stack([nearest - wanted, wanted]).square().reshape(-1, *layer.weight.shape[1:])
        self._numbers = self._squares[0].numel()
        self._apart = torch.zeros(2, len(wanted), dtype=torch.float64)
        self._count = 0
        self._sums = torch.zeros(5, len(wanted), dtype=torch.float64)
        self._products = torch.zeros(5, 5, len(wanted), dtype=torch.float64)
        self._blocks = torch.zeros(3, -(-wanted.shape[1] // self._block), len(wanted), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """What reaches the layer: [B, I, H, W] or [B, ..., I]."""
        answers = self._answers(values, self._parts).unflatten(0, (5, -1))  # [5, O, P]
        self._count += answers.shape[2]
        self._sums += answers.sum(dim=2)
        self._products += torch.einsum("aop,bop->abo", answers, answers)
        self._apart += self._answers(values.square(), self._squares).unflatten(0, (2, -1)).sum(dim=2)
        if self._blocks.shape[1] == 1:
            return
        errors, own = answers[WRONG], self._parts.unflatten(0, (5, -1))[OWN]
        for number, weight in enumerate(own.split(self._block, dim=1)):
            part = self._answers(values, weight, number * self._block)
            self._blocks[:, number] += torch.stack([(part * errors).sum(1), (part * part).sum(1), part.sum(1)])

    def drop(self) -> None:
        """Keep the sums alone: nothing is added any more."""
        self._parts = self._squares = torch.empty(0)

    def _answers(self, values: Tensor, weight: Tensor, start: int = 0) -> Tensor:
        """What outputs [O, P] answer with another weight [O, n, ...], to `n` inputs from `start` on."""
        layer = self._layer
        if isinstance(layer, nn.Linear):
            return F.linear(values[..., start : start + weight.shape[1]], weight).flatten(0, -2).T
        values = values[:, start : start + layer.groups * weight.shape[1]]
        size = math.prod(size // step for size, step in zip(values.shape[2:], layer.stride, strict=True))
        every = max(1, math.isqrt(size // POSITIONS))
        assert not isinstance(layer.padding, str)
        stride = tuple(every * step for step in layer.stride)
        if layer.groups == 1:
            return F.conv2d(values, weight, None, stride, layer.padding, layer.dilation).transpose(0, 1).flatten(1)
        # Parts of one group stand side by side.
        parts = weight.unflatten(0, (-1, layer.groups, layer.out_channels // layer.groups)).transpose(0, 1)
        found = F.conv2d(values, parts.flatten(0, 2), None, stride, layer.padding, layer.dilation, layer.groups)
        return found.unflatten(1, parts.shape[:3]).permute(2, 1, 3, 0, 4, 5).flatten(0, 2).flatten(1)

    def wrong(self, moved: npt.NDArray[np.float64]) -> Iterator[tuple[str, Outputs]]:
        """What no rounding of the checkpoint's does, in words, and the outputs that do it.

        Args:
            moved: by what share of itself an output's scale may have been moved, [O].
        """
        room = torch.from_numpy(moved) + LEAST
        # A bias takes up the mean of what errors answer.
        mean = self._sums / self._count * (self._layer.bias is not None)
        size = self._products / self._count - mean[:, None] * mean
        own = size[OWN, OWN].clamp(min=torch.finfo(torch.float64).tiny)
        wider = (1 + FEW / self._count) * (1 + FEW_NUMBERS / self._numbers)
        apart = self._apart / self._count
        noise = torch.maximum(size[NEAREST, NEAREST], apart[0]).sqrt()
        yield (
            "answer as none that is rounded to the nearest",
            _beyond(size[WRONG, WRONG].clamp(min=0).sqrt(), REACH * wider * noise + room * own.sqrt()),
        )
        beside = size - size[:, None, OWN] * size[None, :, OWN] / own  # a scale moves what is not
        for step in (ABOVE, BELOW):
            after = beside[WRONG, WRONG] + 2 * beside[WRONG, step] + beside[step, step]
            by_chance = beside[WRONG, WRONG].sqrt() <= BY_CHANCE * wider * noise + LEAST * own.sqrt()
            nearer = _beyond(NEARER**2 * beside[WRONG, WRONG].masked_fill(by_chance, 0), after.clamp(min=0))
            yield "are nearer with all of their integers one step off", nearer
        most = self._most * torch.maximum(own, apart[1]).sqrt()
        allowed = wider * torch.minimum(ALONG * noise, most) / own.sqrt()
        yield "are scaled", _beyond((size[WRONG, OWN] / own).abs(), allowed + room)
        errors, alone, first = self._blocks / self._count
        first = first * (self._layer.bias is not None)
        alone = (alone - first**2).clamp(min=torch.finfo(torch.float64).tiny)
        along = ((errors - first * mean[WRONG]) / alone).abs()
        yield "are scaled in a block", _beyond(along, ALONG_BLOCK * wider * noise / alone.sqrt() + room)


def layer_answers(
    tower: nn.Module, found: Sequence[Matched], grids: Storage, inputs: Tensor
) -> dict[str, LayerAnswers]:
    """What layers of a tower answer, by the name of their weight.

    Args:
        tower: as its rounding is learned, with the checkpoint's numbers.
        found: the weights that were learned.
        inputs: of the tower, [N, ...].
    """
    answers: dict[str, LayerAnswers] = {}
    waiting = [match for match in found if isinstance(_layer(tower, match), nn.Conv2d | nn.Linear)]
    while waiting:
        taken = itertools.accumulate(match.wanted.size for match in waiting)
        count = max(1, sum(size <= AT_ONCE for size in taken))
        some, waiting = waiting[:count], waiting[count:]
        answers |= _answers(tower, some, grids, inputs)
    return answers


def _layer(tower: nn.Module, match: Matched) -> nn.Module:
    return tower.get_submodule(match.layer.removesuffix(".weight"))


@torch.no_grad()
def _answers(tower: nn.Module, some: Sequence[Matched], grids: Storage, inputs: Tensor) -> dict[str, LayerAnswers]:
    answers = {}
    with ExitStack() as stack:
        for match in some:
            layer = _layer(tower, match)
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            own = answers[match.layer] = LayerAnswers(layer, match, grids[match.layer].block)
            stack.callback(own.drop)
            stack.callback(layer.register_forward_hook(lambda _, given, __, own=own: own.add(given[0])).remove)
        for batch in inputs.split(BATCH):
            tower(batch)
    return answers


def _beyond(found: Tensor, allowed: Tensor) -> Outputs:
    """The outputs [..., O] that are beyond; what is not a number is."""
    off = ~(found <= allowed)
    return np.flatnonzero(off.reshape(-1, off.shape[-1]).any(dim=0).numpy())


def steps(stored: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """How far it is from each number [O, I, ...] to the next one above and below that its block holds; 0 at the
    ends."""
    parts = stored.split(block, dim=1)
    above = [_next(part.flatten(1)).reshape(part.shape) for part in parts]
    below = [-_next(-part.flatten(1)).reshape(part.shape) for part in parts]
    return torch.cat(above, dim=1), torch.cat(below, dim=1)


def _next(part: Tensor) -> Tensor:
    """How far above each number of a row [O, n] the next one is."""
    ordered, places = part.sort(dim=1)
    higher = ordered[:, 1:] > ordered[:, :-1] + LEAST * ordered.abs().amax(dim=1, keepdim=True)
    after = torch.where(higher, ordered[:, 1:], torch.inf).flip(1).cummin(dim=1).values.flip(1)
    steps = F.pad(after, (0, 1), value=torch.inf) - ordered
    return torch.zeros_like(part).scatter_(1, places, torch.where(steps.isfinite(), steps, 0.0))
