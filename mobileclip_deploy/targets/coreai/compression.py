"""Weights of a tower put on their grids before it is converted: torch modules that coreai-torch writes as they are.

The integers, scales and tables are ours. Apple's own palettizer rounds float16 weights to four decimal places first:
what is above 6.55 overflows there, and the weight stays uncompressed without a word (coreai-opt 0.3.0).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mobileclip_deploy.targets.foreign.coreai import LAYERS
from mobileclip_deploy.targets.grids.encode import integers_of, tables_of
from mobileclip_deploy.targets.storage import Storage


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
    """Indices (one byte per index here, their own bits in the file) into tables of float16, as `lut_to_dense` restores
    them.

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
