"""Weights of a tower put on their grids before it is converted: torch modules that coreai-torch writes as they are.

The integers, scales and tables are ours. Apple's own palettizer rounds float16 weights to four decimal places first:
what is above 6.55 overflows there, and the weight stays uncompressed without a word (coreai-opt 0.3.0).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mobileclip_deploy.targets.foreign.coreai import LAYERS
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.palette import palette
from mobileclip_deploy.targets.grids.search import CUT, cheapest, nonzero
from mobileclip_deploy.targets.storage import Storage

__all__ = ["compressed", "integers_of", "tables_of"]


class Integers(nn.Module):
    """int8 (or int4 in int8's place) with float16 scales, as `blockwise_shift_scale` restores them."""

    data: Tensor
    scale: Tensor

    def __init__(self, data: Tensor, scale: Tensor, bits: int) -> None:
        super().__init__()
        self.register_buffer("data", data)
        self.register_buffer("scale", scale)
        self.dtype = torch.int8 if bits == 8 else torch.int4  # type: ignore[attr-defined]  # missing in its stubs

    def forward(self, _: Tensor) -> Tensor:
        return torch.ops.coreai.constexpr_blockwise_shift_scale(self.data, self.scale, None, None, self.dtype, None)


class Tables(nn.Module):
    """Indices (a byte each here, their own bits in the file) into tables of float16, as `lut_to_dense` restores them.

    coreai-torch finds the indices by this name to narrow them.
    """

    indices: Tensor
    lut: Tensor

    def __init__(self, indices: Tensor, lut: Tensor) -> None:
        super().__init__()
        self.register_buffer("indices", indices)
        self.register_buffer("lut", lut)

    def forward(self, _: Tensor) -> Tensor:
        return torch.ops.coreai.lut_to_dense(self.indices, self.lut, 0)


def compressed(module: nn.Module, storage: Storage) -> nn.Module:
    """A float16 copy of a tower whose weights stand on their grids; what stays float is rounded once.

    Args:
        module: the folded tower in float32; it stays as it is.
    """
    LAYERS()
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    half = copy.deepcopy(
        module, {id(tensor): _half(tensor, whole=storage[name].kind == "float") for name, tensor in tensors.items()}
    )
    for name, grid in storage.items():
        if grid.kind == "float":
            continue
        owner, _, own = name.rpartition(".")
        values = tensors[name].detach()
        restored = Integers(*integers_of(values, grid), grid.bits) if grid.kind == "integers" else None
        parametrize.register_parametrization(
            half.get_submodule(owner), own, restored or Tables(*tables_of(values, grid)), unsafe=True
        )
    return half


def _half(tensor: Tensor, whole: bool) -> Tensor:
    """A tensor in float16; nothing in the place of one that is about to be restored from its grid."""
    if not tensor.is_floating_point():
        return tensor
    values = tensor.detach().half() if whole else torch.empty(0, dtype=torch.float16)
    return nn.Parameter(values, requires_grad=False) if isinstance(tensor, nn.Parameter) else values


def integers_of(values: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Integers int8 [...] and their scales float16 of the same rank: one an output, or one a block of inputs.

    A scale is rounded to float16 before numbers are divided by it. At 4 bits it is, of several, the one with the
    smallest squared error.
    """
    inputs_axis = 1 - grid.axis
    blocks = 1 if grid.block is None else values.shape[inputs_axis] // grid.block
    # [O, I, kh, kw] -> [O, blocks, I / blocks, kh, kw]: the extreme of each block
    split = values.unflatten(inputs_axis, (blocks, -1))
    kept = {grid.axis if grid.axis < inputs_axis else grid.axis + 1, inputs_axis}
    others = tuple(dim for dim in range(split.ndim) if dim not in kept)
    extreme = split.abs().amax(dim=others, keepdim=True)
    trials = (nonzero((extreme * (share / grid.high)).half().float()) for share in (CUT if grid.bits == 4 else (1.0,)))

    def found(scale: Tensor) -> Tensor:
        return (split / scale).round().clamp(grid.low, grid.high)

    def missed(scale: Tensor) -> Tensor:
        return ((found(scale) * scale - split) ** 2).sum(dim=others, keepdim=True)

    (scale,) = cheapest(((trial,) for trial in trials), missed)
    return found(scale).to(torch.int8).reshape(values.shape), scale.half().squeeze(inputs_axis + 1)


def tables_of(values: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Indices uint8 [...] and tables float16 [groups in each dimension, 2^bits, 1] of a weight: one table for all, or
    one a group of outputs."""
    groups = 1 if grid.group is None else values.shape[grid.axis] // grid.group
    numbers = values.half().numpy()
    indices = np.empty(numbers.shape, np.uint8)
    lut = np.empty((groups, 2**grid.bits), np.float16)
    for group, part in enumerate(np.split(np.arange(values.shape[grid.axis]), groups)):
        place = (slice(None),) * grid.axis + (slice(part[0], part[-1] + 1),)
        lut[group], found = palette(numbers[place], grid.bits)
        indices[place] = found.reshape(numbers[place].shape)
    shape = [1] * values.ndim
    shape[grid.axis] = groups
    return torch.from_numpy(indices), torch.from_numpy(lut.reshape(*shape, -1, 1))
