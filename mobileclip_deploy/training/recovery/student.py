"""A tower with weights rounded as an export will round them, and activations too if the precision needs it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import Target
from mobileclip_deploy.targets.grids.train import TrainableGrid, trainable
from mobileclip_deploy.targets.ranges import ranges_of
from mobileclip_deploy.targets.rules import quantized_layers


def attach(model: MobileCLIP, tower: TowerName, precision: str, target: Target) -> nn.Module:
    """Puts a grid on every weight of a tower that an export quantizes. Returns the tower.

    Args:
        model: folded; changed in place.
        precision: of `RECOVERABLE`.
        target: whose export it is.
    """
    module: nn.Module = getattr(model, tower)
    target.capabilities.storing.absorb(module)
    for layer, grid in list(quantized_layers(target, tower, model, precision)):
        rounding = trainable(grid, layer.weight)  # type: ignore[arg-type]
        parametrize.register_parametrization(layer, "weight", rounding.train(layer.training), unsafe=True)
    return module


@torch.no_grad()
def round_plainly(tower: nn.Module) -> None:
    """Replaces every grid by the weight that an export without training would store, in place."""
    for _, layer, grid in list(grids(tower)):
        weight = layer.parametrizations["weight"].original  # type: ignore[index,union-attr]
        plain = grid.plain(weight.detach())
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        layer.weight.copy_(plain)  # type: ignore[operator]


def grids(tower: nn.Module) -> Iterator[tuple[str, nn.Module, TrainableGrid]]:
    """Yields every quantized module of a tower, by name, with its grid."""
    for name, module in tower.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            (grid,) = module.parametrizations["weight"]
            assert isinstance(grid, TrainableGrid)
            yield name, module, grid


def detach(tower: nn.Module) -> None:
    """Replaces the grids by the rounded weights, in place."""
    for _, module, _ in list(grids(tower)):
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


class _Rounding:
    """Rounding of a value to int8 within its range over inputs, computed as the targets do."""

    def __init__(self) -> None:
        self.low = self.high = 0.0

    def see(self, value: Tensor) -> None:
        seen = ranges_of(lambda: [{"value": value.detach().numpy()}])["value"]
        self.low, self.high = min(self.low, seen.low), max(self.high, seen.high)

    def __call__(self, value: Tensor) -> Tensor:
        step = max(self.high - self.low, 2.0**-10) / 255
        zero = round(-self.low / step)
        scaled = (value / step).clamp(-zero, 255 - zero)
        return (scaled + (scaled.round() - scaled).detach()) * step


@contextmanager
def rounded_activations(tower: nn.Module, names: Collection[str], run: Callable[[], object]) -> Iterator[None]:
    """Rounds inputs and outputs of convolutions and linear layers to int8, asymmetric, one range per tensor.

    Args:
        names: of the layers whose weights are on a grid; a target computes the others in floats.
        run: runs the tower on inputs for measuring the ranges, before anything is rounded.
    """
    layers = [tower.get_submodule(name) for name in names]
    layers = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    ranges: dict[nn.Module, tuple[_Rounding, _Rounding]] = {layer: (_Rounding(), _Rounding()) for layer in layers}

    def measure(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ranges[layer][0].see(inputs[0])
        ranges[layer][1].see(output)

    handles = [layer.register_forward_hook(measure) for layer in layers]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    handles = [layer.register_forward_pre_hook(lambda m, i: (ranges[m][0](i[0]), *i[1:])) for layer in layers]
    handles += [layer.register_forward_hook(lambda m, _, output: ranges[m][1](output)) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
