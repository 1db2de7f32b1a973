"""Second moments of every layer's inputs, from one forward and one backward pass. Rounding learns from them, and is
judged by them.

Each position is weighted by the squared gradient of the embedding with respect to the layer's output there. An error at
a position that nothing later reads (padding after a text, a corner of a picture) then costs nothing. The gradient is
that of a random projection of the unit embedding; its expected square is the sum over all of the embedding's elements
(Hutchinson, 1990).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput

# Sampled positions, over all inputs, per weight of one output of a layer. Each input gives at least LEAST_POSITIONS,
# each of MANY pictures half of them. With 8 to 32 (SAMPLES) and 16 to 128 (LEAST_POSITIONS), nano's image tower comes
# out within 0.1 dB, as with another seed. The sums of second moments take longer with more positions. Judging an error
# needs fewer positions than learning, whose moments have to be of full rank.
SAMPLES, FOR_JUDGING = 16, 8
LEAST_POSITIONS = 32
MANY = 256
# Share of the total weight that is kept when the lightest positions are left out: most of a text is padding.
COUNTED = 0.999
# Moments are symmetric: larger ones are stored as blocks of this many rows, from the diagonal on.
BLOCK = 256


@dataclass(frozen=True)
class Moments:
    """Weighted moments of the inputs of one layer, by the groups of a convolution: `second` [G, n, n], `first` [G, n],
    and `mass` [G], the sum of the weights."""

    second: Tensor
    first: Tensor
    mass: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean of the inputs, [G, n]."""
        return self.first / self.mass.clamp(min=torch.finfo(torch.float32).tiny)[:, None]

    def centred(self) -> Tensor:
        """Returns the second moments about the mean, [G, n, n]: the cost of an error after the bias has compensated its
        mean."""
        mean = self.mean
        return self.second - self.mass[:, None, None] * mean[:, :, None] * mean[:, None, :]

    def cost(self, error: Tensor) -> float:
        """Returns the cost of an error [G, R, n] of the weight."""
        return float(((error @ self.second) * error).sum())

    def cost_with_bias(self, error: Tensor, correction: Tensor) -> float:
        """Returns the cost if the bias compensates `correction` [G, R]: the sum of (error x - correction)^2."""
        means = (error @ self.first[:, :, None])[..., 0]  # [G, R]
        return self.cost(error) + float((correction * (correction * self.mass[:, None] - 2 * means)).sum())


class _Sums:
    """Accumulator of the moments of `numbers` inputs in each of `groups`. Blocks of rows start at the diagonal, each in
    one piece of memory."""

    def __init__(self, groups: int, numbers: int) -> None:
        self._blocks = [
            torch.zeros(groups, min(BLOCK, numbers - start), numbers - start) for start in range(0, numbers, BLOCK)
        ]
        self._first = torch.zeros(groups, numbers)
        self._mass = torch.zeros(groups)

    def add(self, columns: Tensor, weights: Tensor) -> None:
        """Adds columns [G, n, P] with their weights [G, P]."""
        roots = weights.sqrt()
        columns = columns * roots[:, None, :]
        for index, block in enumerate(self._blocks):
            rest = columns[:, index * BLOCK :]
            block.baddbmm_(rest[:, :BLOCK], rest.transpose(1, 2))
        self._first += (columns @ roots[:, :, None])[..., 0]
        self._mass += weights.sum(dim=1)

    def moments(self) -> Moments:
        """Returns the accumulated moments, and frees the blocks."""
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
    """Computes the moments of each layer's inputs over batches of a tower's inputs.

    Args:
        tower: as exported, in eval mode, in float32.
        layers: modules of it, by name.
        batches: pixels [N, 3, S, S] or ids [N, L].
        seed: of the random projections.
        samples: positions per weight of one output.

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
    results = {name: layer_sums.moments() for name, layer_sums in sums.items()}
    for name, moments in results.items():
        if not bool(torch.isfinite(moments.mass).all()):
            raise InvalidInput(
                f"{name}: its gradient is not a number on the calibration inputs; look at the checkpoint with `inspect`"
            )
    return results


def _seen(
    name: str, sums: dict[str, _Sums], enough: int, generator: torch.Generator
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        layer_input = inputs[0].detach()

        def backward(gradient: Tensor) -> None:
            columns, weights = _positions(layer, layer_input, gradient, enough, generator)
            if name not in sums:
                sums[name] = _Sums(*columns.shape[:2])
            sums[name].add(columns, weights)

        if not output.requires_grad:  # nothing before this layer needs a gradient: it ends here
            output.requires_grad_()
        output.register_hook(backward)

    return hook


@torch.no_grad()
def _positions(
    layer: nn.Module, given: Tensor, gradient: Tensor, enough: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Samples about `enough` positions of each input of a layer.

    The positions of a map are evenly spaced, with a random start each time.

    Returns:
        The layer's inputs there, [G, n, P], and the cost of an error, [G, P].
    """
    size = len(given)
    if not isinstance(layer, nn.Conv2d):
        positions, weights = _counted(gradient.reshape(1, -1, gradient.shape[-1]).square().sum(dim=2), enough * size)
        return given.reshape(-1, given.shape[-1])[positions].T[None], weights
    height, width = gradient.shape[2:]
    down = max(1, min(height, math.isqrt(height * width // enough)))
    across = max(1, min(width, height * width // (enough * down)))
    first = tuple(int(torch.randint(step, (1,), generator=generator)) for step in (down, across))
    sampled = gradient[:, :, first[0] :: down, first[1] :: across] * math.sqrt(down * across)  # [B, O, h, w]
    weights = (
        sampled.reshape(size, layer.groups, -1, sampled.shape[2] * sampled.shape[3]).square().sum(dim=2)
    )  # [B, G, L]
    weights = weights.transpose(0, 1).flatten(1)
    windows = _windows(layer, given, first, (down, across))  # [B, I, h, w, k, k]
    positions, counted = _counted(weights, weights.shape[1])
    if len(positions) > weights.shape[1] // 2:  # selecting them costs more than it saves: the others get weight 0
        weights = torch.zeros_like(weights).index_copy_(1, positions, counted)
        windows = windows.reshape(size, layer.groups, -1, *windows.shape[2:]).permute(1, 2, 5, 6, 0, 3, 4)
        return windows.flatten(4).flatten(1, 3), weights
    rows = windows.permute(0, 2, 3, 1, 4, 5)[torch.unravel_index(positions, (size, *sampled.shape[2:]))]  # [P, I, k, k]
    return rows.reshape(len(positions), layer.groups, -1).permute(1, 2, 0), counted


def _windows(layer: nn.Conv2d, given: Tensor, first: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Returns a convolution's windows at every `steps`th position from `first` on, in rows and columns: a view [B, I,
    h, w, k, k]."""
    assert not isinstance(layer.padding, str)
    rows, columns = layer.padding
    windows = F.pad(given, (columns, columns, rows, rows))
    for dim, (kernel, dilation, stride) in enumerate(
        zip(layer.kernel_size, layer.dilation, layer.stride, strict=True), start=2
    ):
        start, step = first[dim - 2] * stride, steps[dim - 2]
        windows = windows.narrow(dim, start, windows.shape[dim] - start)
        windows = windows.unfold(dim, (kernel - 1) * dilation + 1, stride * step)[..., ::dilation]
    return windows


def _counted(weights: Tensor, enough: int) -> tuple[Tensor, Tensor]:
    """Selects about `enough` positions of [G, P], and returns them and their weights.

    Half are the heaviest. The rest are lighter ones, evenly spaced in rank; each gets the weight of those it
    represents.
    """
    ranked, order = weights.sum(dim=0).sort(descending=True)
    share = ranked.cumsum(0)
    count = int((share < COUNTED * share[-1]).sum()) + 1
    heavy = min(count, (enough + 1) // 2)
    step = max(1, (count - heavy) // max(1, enough - heavy))
    light = order[heavy + step // 2 : count : step]
    represented = (count - heavy) / max(1, len(light))
    return torch.cat([order[:heavy], light]), torch.cat([weights[:, order[:heavy]], weights[:, light] * represented], 1)
