"""What rounding learns from: second moments of every layer's inputs, from one forward and one backward pass.

Each position counts by the squared gradient of the embedding with respect to what the layer gives there: an error at a
position that nothing later looks at (padding after a text, a corner of a picture) costs nothing. The gradient is that
of a random projection of the unit embedding, whose square is in expectation the sum over all of its numbers
(Hutchinson, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.progress import Progress, silent

__all__ = ["Moments", "gather"]

# Of hundreds of inputs as many positions of each are enough as a layer has inputs, within these: of a larger map every
# second, third, ... row and column is looked at. S0's 49 taps of a depthwise kernel at 256 positions took three
# quarters of the time of all statistics.
POSITIONS = (128, 256)
# Positions that hardly count are left out until this share of what all weigh is left: most of a text is padding.
COUNTED = 0.999


@dataclass
class Moments:
    """Of the inputs of one layer, by the groups of a convolution: second moments [G, n, n] and means [G, n], weighted;
    `mass` [G], the sum of the weights."""

    second: Tensor
    first: Tensor
    mass: Tensor

    @property
    def mean(self) -> Tensor:
        """Of the inputs, [G, n]."""
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


def gather(
    tower: nn.Module,
    layers: Mapping[str, nn.Conv2d | nn.Linear],
    batches: Iterable[Tensor],
    seed: int,
    progress: Progress = silent,
) -> dict[str, Moments]:
    """The moments of each layer's inputs over batches of a tower's inputs.

    Args:
        tower: as exported, in eval mode, in float32.
        layers: modules of it, by name.
        batches: pixels [N, 3, S, S] or ids [N, 77].
        seed: of the random projections.

    Raises:
        InvalidInput: a gradient is not a number.
    """
    found: dict[str, Moments] = {}
    generator = torch.Generator().manual_seed(seed)
    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_hook(_seen(name, found)).remove)
        for module in tower.modules():
            if isinstance(module, nn.Embedding):  # ids have no gradient: it ends at what they are looked up as
                stack.callback(module.register_forward_hook(lambda _, __, out: out.detach().requires_grad_()).remove)
        for number, batch in enumerate(batches, 1):
            progress(f"statistics, batch {number}")
            given = batch.clone().requires_grad_() if batch.is_floating_point() else batch
            embedding = F.normalize(tower(given), dim=1)
            (embedding * torch.randn(embedding.shape, generator=generator)).sum().backward()
    for name, moments in found.items():
        if not bool(torch.isfinite(moments.mass).all()):
            raise InvalidInput(
                f"{name}: its gradient is not a number on the calibration inputs; look at the checkpoint with `inspect`"
            )
    return found


def _seen(name: str, found: dict[str, Moments]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given = inputs[0].detach()

        def backward(gradient: Tensor) -> None:
            columns, weights = _positions(layer, given, gradient)
            weighted = columns * weights[:, None, :]
            second, first = weighted @ columns.transpose(1, 2), weighted.sum(dim=2)
            if name not in found:
                found[name] = Moments(second, first, weights.sum(dim=1))
            else:
                found[name].second += second
                found[name].first += first
                found[name].mass += weights.sum(dim=1)

        output.register_hook(backward)

    return hook


@torch.no_grad()
def _positions(layer: nn.Module, given: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """What a layer takes at every position, [G, n, P], and what an error there costs, [G, P]."""
    if isinstance(layer, nn.Conv2d):
        size, groups = given.shape[0], layer.groups
        height, width = gradient.shape[2:]
        enough = min(max(layer.weight[0].numel(), POSITIONS[0]), POSITIONS[1])
        step = max(1, math.ceil(math.sqrt(height * width / enough))) if min(height, width) > 1 else 1
        first = step // 2  # not the edge, of which there is little
        kept = gradient[:, :, first::step, first::step] * step  # [B, O, h, w]
        weights = kept.reshape(size, groups, -1, kept.shape[2] * kept.shape[3]).square().sum(dim=2)  # [B, G, L]
        windows = _windows(layer, given, first, step)  # [B, I, h, w, k, k]
        windows = windows.reshape(size, groups, -1, *windows.shape[2:]).permute(1, 2, 5, 6, 0, 3, 4)
        return _counted(windows.flatten(4).flatten(1, 3), weights.transpose(0, 1).flatten(1))
    columns = given.reshape(1, -1, given.shape[-1]).transpose(1, 2)
    return _counted(columns, gradient.reshape(1, -1, gradient.shape[-1]).square().sum(dim=2))


def _windows(layer: nn.Conv2d, given: Tensor, first: int, step: int) -> Tensor:
    """What a convolution sees at every `step`th position from the `first` on: a view [B, I, h, w, k, k]."""
    assert not isinstance(layer.padding, str)
    down, across = layer.padding
    found = F.pad(given, (across, across, down, down))
    for dim, (kernel, dilation, stride) in enumerate(
        zip(layer.kernel_size, layer.dilation, layer.stride, strict=True), start=2
    ):
        found = found.narrow(dim, first * stride, found.shape[dim] - first * stride)
        found = found.unfold(dim, (kernel - 1) * dilation + 1, stride * step)[..., ::dilation]
    return found


def _counted(columns: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs [G, n, P] and weights [G, P] of the positions that count."""
    ranked, order = weights.sum(dim=0).sort(descending=True)
    share = ranked.cumsum(0)
    kept = order[: int((share < COUNTED * share[-1]).sum()) + 1]
    return columns[:, :, kept], weights[:, kept]
