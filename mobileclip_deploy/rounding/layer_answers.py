"""What layers whose rounding was learned answer to the values that reach them, against rounding to the nearest.

Learned rounding leaves the nearest numbers so that a layer's answers stay. So these say whether it is one: an output
whose scale or whose integers are moved as a whole answers otherwise, however far learning has moved single numbers.
Values count as they do in learning, by what an error there does to the embedding: where nothing is read, behind the end
of a text, learning leaves errors as they come.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.rounding.moments import FOR_JUDGING, Moments, gather
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.train import to_nearest
from mobileclip_deploy.targets.storage import Storage
from mobileclip_deploy.verify.matching import Matched

# Bounds stand at so many standard deviations of what chance does: of 100,000 outputs the furthest comes to 4.4. By
# GPTQ and tuned, nano's towers came to 4.4 where no scale is moved.
SIGMAS = 5.0
# Few values say less of a layer than those that it learned from, which they may be unlike: bounds are wider by this,
# divided by their number. Of nano's text tower in ten languages 24 ends of texts, which count as 2.9, came to 8.8.
FEW = 4.0
# What float32 rounds, as a share.
LEAST = 1e-6
# The share of a value's mean square that the mean of an input's values has to have. A LayerNorm leaves it 0.
SHOWN = 1e-3
# Inputs at a time, and the seed of the projections whose gradients say what an error costs.
BATCH, SEED = 4, 0
# Numbers of second moments that are gathered together.
AT_ONCE = 1 << 27
# Division by what may be nothing.
TINY = torch.finfo(torch.float64).tiny

Outputs = npt.NDArray[np.intp]


class LayerAnswers:
    """What a layer's outputs answer with the errors of the stored weight, and what these would answer by chance: as if
    each were as large as that of rounding to the nearest, and they had nothing to do with one another. That is what
    they do to values that learning did not see.

    The nearest integers are those by the scales that an export without learning chooses, not by the file's: a scale
    that is too small cuts numbers off, and would itself bring the bound that lets it pass. A table's entries are the
    file's.
    """

    @torch.no_grad()
    def __init__(self, match: Matched, grid: Grid, moments: Moments, biased: bool) -> None:
        """Args:
        moments: of the layer's inputs.
        biased: the layer has a bias, which takes up the mean of what errors answer.
        """
        wanted, stored = (
            torch.from_numpy(np.require(one, requirements="W")) for one in (match.wanted, match.stored.values)
        )
        block = grid.block or wanted.shape[1]
        above, below = steps(stored, grid)
        step = (above - below) / 2
        if grid.kind == "integers":
            nearest = to_nearest(grid, wanted)
        else:
            nearest = torch.from_numpy(match.stored.nearest(match.wanted))
        variances = (nearest - wanted).square()
        if grid.kind == "table":
            # Small numbers may all be near to the entry at 0: what others' errors add spreads them over its cell.
            cell = step.square()
            variances = torch.where(variances > cell / 4, variances, cell / 12)
        groups, numbers = moments.first.shape
        errors, rounded, variances, own, step = (
            part.reshape(groups, -1, numbers).double()  # [G, R, n]
            for part in (stored - wanted, nearest - wanted, variances, wanted, step)
        )
        second = (moments.centred() if biased else moments.second).double()
        second /= moments.mass.double().clamp(min=TINY)[:, None, None]
        self.shows_constant = bool(
            (second.mean(dim=(1, 2)) > SHOWN * second.diagonal(dim1=1, dim2=2).mean(dim=1)).all()
        )
        chance = _Chance(errors, rounded, variances, second)
        self._answer = chance.mean_square(own).sqrt(), chance.mean_square(errors).sqrt(), chance.largest().sqrt()
        self._wider = 1 + FEW / moments.count.double().clamp(min=TINY).repeat_interleave(own.shape[1])
        # A scale moves what is along the answers themselves: beside these a step is looked for.
        step -= own * (chance.product(own, step) / chance.product(own, own).clamp(min=TINY))[..., None]
        parts = torch.arange(numbers).split(block * (numbers // wanted.shape[1]))
        self._along = {
            "are moved by a step": [chance.along(step)],
            "are scaled": [chance.along(own)],
            "are scaled in a block": [chance.along(own, at) for at in parts if len(parts) > 1],
        }

    def wrong(self, moved: npt.NDArray[np.float64]) -> Iterator[tuple[str, Outputs]]:
        """What no rounding of the checkpoint's does, in words, and the outputs that do it.

        Args:
            moved: by what share of itself an output's scale may have been moved, [O].
        """
        room = torch.from_numpy(moved) + LEAST
        own, answer, largest = self._answer
        yield "answer as none that is rounded to the nearest", _beyond(answer, self._wider * largest + room * own)
        for words, parts in self._along.items():
            far = [_beyond(share, SIGMAS * self._wider * chance + least + room) for share, least, chance in parts]
            yield words, np.unique(np.concatenate([np.empty(0, np.intp), *far]))


@dataclass(frozen=True)
class _Chance:
    """Errors of weights [G, R, n], those of rounding to the nearest, what the variances of such are, and the second
    moments [G, n, n] of what reaches them."""

    errors: Tensor
    nearest: Tensor
    variances: Tensor
    second: Tensor

    def product(self, one: Tensor, other: Tensor) -> Tensor:
        """The mean of what two weights [G, R, n] answer, multiplied, [G, R]."""
        return ((one @ self.second) * other).sum(dim=2)

    def mean_square(self, weight: Tensor) -> Tensor:
        """That of what a weight [G, R, n] answers, [O]."""
        return self.product(weight, weight).clamp(min=0).flatten()

    def largest(self) -> Tensor:
        """The largest mean square of what errors of these variances answer, [O]; no less than the nearest do.

        It is spread as chi-squared is, of as many degrees of freedom as have its mean and variance (Satterthwaite,
        1946). Values that lie in few directions leave few. The bound is Wilson's and Hilferty's (1931).
        """
        mean = (self.variances * self.second.diagonal(dim1=1, dim2=2)[:, None]).sum(dim=2)
        half = ((self.variances @ self.second.square()) * self.variances).sum(dim=2)  # of its variance
        ninth = 2 * half / (9 * mean.square()).clamp(min=TINY)
        bound = mean * (1 - ninth + SIGMAS * ninth.sqrt()) ** 3
        return torch.maximum(bound.flatten(), self.mean_square(self.nearest))

    def along(self, weight: Tensor, at: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """How much of what the numbers [G, R, n] at `at` answer is in what the errors do, by least squares, and in what
        the nearest do: numbers of less than half a step all become 0; and the standard deviation by chance, [O]."""
        part = weight[:, :, at]
        answered = part @ self.second[:, at]  # [G, R, n]
        size = (answered[:, :, at] * part).sum(dim=2).clamp(min=TINY)
        chance = (answered.square() * self.variances).sum(dim=2).sqrt() / size
        share, least = ((answered * errors).sum(dim=2).abs() / size for errors in (self.errors, self.nearest))
        return share.flatten(), least.flatten(), chance.flatten()


def layer_answers(
    tower: nn.Module, found: Sequence[Matched], grids: Storage, inputs: Tensor
) -> dict[str, LayerAnswers]:
    """What layers of a tower answer, by the name of their weight.

    Args:
        tower: as its rounding is learned, with the checkpoint's numbers; nothing is learned of it any more.
        found: the weights that were learned.
        inputs: of the tower, [N, ...].
    """
    tower.requires_grad_(False)
    answers: dict[str, LayerAnswers] = {}
    waiting: list[tuple[Matched, nn.Conv2d | nn.Linear]] = []
    for match in found:
        layer = tower.get_submodule(match.layer.removesuffix(".weight"))
        if isinstance(layer, nn.Conv2d | nn.Linear):
            waiting.append((match, layer))
    while waiting:
        taken = itertools.accumulate(match.wanted[0].size ** 2 for match, _ in waiting)
        count = max(1, sum(size <= AT_ONCE for size in taken))
        some, waiting = waiting[:count], waiting[count:]
        with torch.enable_grad():
            layers = {match.layer: layer for match, layer in some}
            moments = gather(tower, layers, inputs.split(BATCH), SEED, samples=FOR_JUDGING)
        for match, layer in some:
            own = moments.pop(match.layer)
            answers[match.layer] = LayerAnswers(match, grids[match.layer], own, layer.bias is not None)
    return answers


def _beyond(found: Tensor, allowed: Tensor) -> Outputs:
    """The outputs [O] that are beyond; what is not a number is."""
    return np.flatnonzero(~(found <= allowed).numpy())


def steps(stored: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """How far it is from each number [O, I, ...] to the next one above and below that its block or its table holds; 0
    at the ends."""
    dim, start = (0, 0) if grid.kind == "table" else (1, 1)
    size = grid.group if grid.kind == "table" else grid.block
    blocks = [(part.shape, part.flatten(start)) for part in stored.split(size or stored.shape[dim], dim)]
    above = [_next(part).reshape(shape) for shape, part in blocks]
    below = [-_next(-part).reshape(shape) for shape, part in blocks]
    return torch.cat(above, dim), torch.cat(below, dim)


def _next(part: Tensor) -> Tensor:
    """How far above each number of a row [..., n] the next one is."""
    ordered, places = part.sort(dim=-1)
    higher = ordered[..., 1:] > ordered[..., :-1] + LEAST * ordered.abs().amax(dim=-1, keepdim=True)
    after = torch.where(higher, ordered[..., 1:], torch.inf).flip(-1).cummin(dim=-1).values.flip(-1)
    steps = F.pad(after, (0, 1), value=torch.inf) - ordered
    return torch.zeros_like(part).scatter_(-1, places, torch.where(steps.isfinite(), steps, 0.0))
