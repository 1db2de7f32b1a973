"""What rounding learns from and is judged by: second moments of every layer's inputs, from one forward and one backward
pass.

Each position counts by the squared gradient of the embedding with respect to what the layer gives there: an error at a
position that nothing later looks at (padding after a text, a corner of a picture) costs nothing. The gradient is that
of a random projection of the unit embedding, whose square is in expectation the sum over all of its numbers
(Hutchinson, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput

# So many positions of all inputs together are looked at for each number that an output of a layer is made of; of each
# input at least LEAST_POSITIONS, of each of MANY pictures half of them. With 8 to 32, and with 16 to 128, nano's image
# tower comes out within 0.1 dB, as with another seed; the more there are, the longer the sums of second moments take.
# What an error costs is told from fewer than what is learned from, which has to be of full rank.
SAMPLES, FOR_JUDGING = 16, 8
LEAST_POSITIONS = 32
MANY = 256
# Positions that hardly count are left out until this share of what all weigh is left: most of a text is padding.
COUNTED = 0.999
# Moments are symmetric: of those of so many numbers and more, blocks of this size on one side of the diagonal.
BLOCK = 256


@dataclass(frozen=True)
class Moments:
    """Weighted moments of the inputs of one layer, by the groups of a convolution: `second` [G, n, n], `first` [G, n],
    `mass` [G], the sum of the weights."""

    second: Tensor
    first: Tensor
    mass: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean of the inputs, [G, n]."""
        return self.first / self.mass.clamp(min=torch.finfo(torch.float32).tiny)[:, None]

    def centred(self) -> Tensor:
        """Second moments about the mean, [G, n, n]: what is left of an error once the bias has taken up its mean."""
        mean = self.mean
        return self.second - self.mass[:, None, None] * mean[:, :, None] * mean[:, None, :]

    def cost(self, error: Tensor) -> float:
        """What an error [G, R, n] of the weight costs."""
        return float(((error @ self.second) * error).sum())

    def cost_with_bias(self, error: Tensor, correction: Tensor) -> float:
        """What it costs where the bias takes up `correction` [G, R] of it: the sum of (error x - correction)^2."""
        means = (error @ self.first[:, :, None])[..., 0]  # [G, R]
        return self.cost(error) + float((correction * (correction * self.mass[:, None] - 2 * means)).sum())


class _Sums:
    """Moments of `numbers` inputs of each of `groups`, while they are added up: in blocks of rows from the diagonal on,
    each in one piece of memory."""

    def __init__(self, groups: int, numbers: int) -> None:
        self._blocks = [
            torch.zeros(groups, min(BLOCK, numbers - start), numbers - start) for start in range(0, numbers, BLOCK)
        ]
        self._first = torch.zeros(groups, numbers)
        self._mass = torch.zeros(groups)

    def add(self, columns: Tensor, weights: Tensor) -> None:
        """Columns [G, n, P], each as often as its weight [G, P] says."""
        roots = weights.sqrt()
        columns = columns * roots[:, None, :]
        for number, block in enumerate(self._blocks):
            rest = columns[:, number * BLOCK :]
            block.baddbmm_(rest[:, :BLOCK], rest.transpose(1, 2))
        self._first += (columns @ roots[:, :, None])[..., 0]
        self._mass += weights.sum(dim=1)

    def moments(self) -> Moments:
        """What was added, and nothing is left here."""
        groups, numbers = self._first.shape
        if len(self._blocks) == 1:
            return Moments(self._blocks.pop(), self._first, self._mass)
        second = torch.empty(groups, numbers, numbers)
        for start in range(0, numbers, BLOCK):
            block = self._blocks.pop(0)
            second[:, start : start + BLOCK, start:] = block
            second[:, start:, start : start + BLOCK] = block.transpose(1, 2)
        return Moments(second, self._first, self._mass)


def gather(
    tower: nn.Module,
    layers: Mapping[str, nn.Conv2d | nn.Linear],
    batches: Sequence[Tensor],
    seed: int,
    progress: Progress = silent,
    samples: int = SAMPLES,
) -> dict[str, Moments]:
    """The moments of each layer's inputs over batches of a tower's inputs.

    Args:
        tower: as exported, in eval mode, in float32.
        layers: modules of it, by name.
        batches: pixels [N, 3, S, S] or ids [N, L].
        seed: of the random projections.
        samples: positions for each number that an output is made of.

    Raises:
        InvalidInput: a gradient is not a number.
    """
    sums: dict[str, _Sums] = {}
    generator = torch.Generator().manual_seed(seed)
    inputs = sum(len(batch) for batch in batches)
    least = LEAST_POSITIONS // 2 if inputs >= MANY and batches[0].is_floating_point() else LEAST_POSITIONS
    with ExitStack() as stack:
        for name, layer in layers.items():
            enough = max(least, math.ceil(samples * layer.weight[0].numel() / inputs))
            stack.callback(layer.register_forward_hook(_seen(name, sums, enough, generator)).remove)
        for number, batch in enumerate(batches, 1):
            progress(f"statistics, batch {number}")
            embedding = F.normalize(tower(batch), dim=1)
            (embedding * torch.randn(embedding.shape, generator=generator)).sum().backward()
    found = {name: one.moments() for name, one in sums.items()}
    for name, moments in found.items():
        if not bool(torch.isfinite(moments.mass).all()):
            raise InvalidInput(
                f"{name}: its gradient is not a number on the calibration inputs; look at the checkpoint with `inspect`"
            )
    return found


def _seen(
    name: str, sums: dict[str, _Sums], enough: int, generator: torch.Generator
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given = inputs[0].detach()

        def backward(gradient: Tensor) -> None:
            columns, weights = _positions(layer, given, gradient, enough, generator)
            if name not in sums:
                sums[name] = _Sums(*columns.shape[:2])
            sums[name].add(columns, weights)

        if not output.requires_grad:  # before it is nothing that a gradient is asked for: it ends here
            output.requires_grad_()
        output.register_hook(backward)

    return hook


@torch.no_grad()
def _positions(
    layer: nn.Module, given: Tensor, gradient: Tensor, enough: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What a layer takes, [G, n, P], and what an error there costs, [G, P]: at about `enough` positions of each input,
    of a map evenly spread and elsewhere each time."""
    size = len(given)
    if not isinstance(layer, nn.Conv2d):
        places, weights = _counted(gradient.reshape(1, -1, gradient.shape[-1]).square().sum(dim=2), enough * size)
        return given.reshape(-1, given.shape[-1])[places].T[None], weights
    height, width = gradient.shape[2:]
    down = max(1, min(height, math.isqrt(height * width // enough)))
    across = max(1, min(width, height * width // (enough * down)))
    first = tuple(int(torch.randint(step, (1,), generator=generator)) for step in (down, across))
    kept = gradient[:, :, first[0] :: down, first[1] :: across] * math.sqrt(down * across)  # [B, O, h, w]
    weights = kept.reshape(size, layer.groups, -1, kept.shape[2] * kept.shape[3]).square().sum(dim=2)  # [B, G, L]
    weights = weights.transpose(0, 1).flatten(1)
    windows = _windows(layer, given, first, (down, across))  # [B, I, h, w, k, k]
    places, counted = _counted(weights, weights.shape[1])
    if len(places) > weights.shape[1] // 2:  # to pick them out costs more than what it spares: the others weigh nothing
        weights = torch.zeros_like(weights).index_copy_(1, places, counted)
        windows = windows.reshape(size, layer.groups, -1, *windows.shape[2:]).permute(1, 2, 5, 6, 0, 3, 4)
        return windows.flatten(4).flatten(1, 3), weights
    rows = windows.permute(0, 2, 3, 1, 4, 5)[torch.unravel_index(places, (size, *kept.shape[2:]))]  # [P, I, k, k]
    return rows.reshape(len(places), layer.groups, -1).permute(1, 2, 0), counted


def _windows(layer: nn.Conv2d, given: Tensor, first: Sequence[int], steps: Sequence[int]) -> Tensor:
    """What a convolution sees at every `steps`th position from the `first` on, of rows and of columns: a view
    [B, I, h, w, k, k]."""
    assert not isinstance(layer.padding, str)
    rows, columns = layer.padding
    found = F.pad(given, (columns, columns, rows, rows))
    for dim, (kernel, dilation, stride) in enumerate(
        zip(layer.kernel_size, layer.dilation, layer.stride, strict=True), start=2
    ):
        start, step = first[dim - 2] * stride, steps[dim - 2]
        found = found.narrow(dim, start, found.shape[dim] - start)
        found = found.unfold(dim, (kernel - 1) * dilation + 1, stride * step)[..., ::dilation]
    return found


def _counted(weights: Tensor, enough: int) -> tuple[Tensor, Tensor]:
    """The positions of [G, P] that count, and their weights: the heaviest, and of the lighter ones as many, evenly
    drawn from their ranks, each for those that it stands for."""
    ranked, order = weights.sum(dim=0).sort(descending=True)
    share = ranked.cumsum(0)
    count = int((share < COUNTED * share[-1]).sum()) + 1
    heavy = min(count, (enough + 1) // 2)
    step = max(1, (count - heavy) // max(1, enough - heavy))
    light = order[heavy + step // 2 : count : step]
    standing_for = (count - heavy) / max(1, len(light))
    return torch.cat([order[:heavy], light]), torch.cat(
        [weights[:, order[:heavy]], weights[:, light] * standing_for], 1
    )
