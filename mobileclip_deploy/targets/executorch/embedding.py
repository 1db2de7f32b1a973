"""The word table as int8 rows, or at 6 bits per element: rows are looked up first, and then dequantized.

The table is 40 to 60% of a text tower, and no quantizer of linear layers changes it. int8 has one scale per row,
because frequent and rare words have rows of different length. At six bits, elements are indices into a table of 64
entries, four of them in three bytes. Only the rows of one text are unpacked. This runs in portable kernels and makes
nano's tower a tenth slower. Rows are read by `embedding`: the kernel of `index` computes the address of each element
separately, and took half as long as all of nano's products.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileclip_deploy.network.model.provenance import weight_sha256
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.palette import palette

BITS = 6
ENTRIES = 2**BITS


class Int8Embedding(nn.Module):
    """Embedding of token ids [N, L] as rows [N, L, C], from an int8 table [V, C] and float32 scales [V, 1]."""

    table: Tensor
    scale: Tensor

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        weight = embedding.weight.detach()
        scale = (weight.abs().amax(dim=1, keepdim=True) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        self.register_buffer("table", torch.round(weight / scale).to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.table).float() * F.embedding(ids, self.scale)


class PaletteEmbedding(nn.Module):
    """Embedding of token ids [N, L] as rows [N, L, C], from bytes [V, 3C / 4] and float32 entries [64, 1]."""

    packed: Tensor
    entries: Tensor

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        weight = embedding.weight.detach()
        entries = torch.from_numpy(palette(weight.half().numpy(), BITS)[0]).float()
        indices = torch.searchsorted((entries[1:] + entries[:-1]) / 2, weight)
        self.register_buffer("packed", _packed(indices.to(torch.uint8)))
        self.register_buffer("entries", entries[:, None])

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(unpacked(F.embedding(ids, self.packed)), self.entries).squeeze(-1)


def _packed(indices: Tensor) -> Tensor:
    """Packs indices uint8 [V, C] below 64 in bytes [V, 3C / 4]. Three quarters of the columns are the lower six bits.
    Each index of the last quarter is split over the two upper bits of a byte in each other quarter."""
    *lower, last = indices.chunk(4, dim=-1)
    return torch.cat(lower, dim=-1) | torch.cat([last & 3, (last >> 2) & 3, last >> 4], dim=-1) << BITS


def unpacked(rows: Tensor) -> Tensor:
    """Returns the indices int64 [..., C] of bytes [..., 3C / 4].

    ExecuTorch has no shift operator, and the quantizer makes every factor a float. Four times is therefore computed by
    doubling twice.
    """
    whole = rows.long()
    upper = torch.div(whole, ENTRIES, rounding_mode="floor")
    size = rows.shape[-1] // 3
    first, second, third = (upper[..., start : start + size] for start in (0, size, 2 * size))
    last = _four_times(_four_times(third) + second) + first
    return torch.cat([whole & (ENTRIES - 1), last], dim=-1)


def _four_times(numbers: Tensor) -> Tensor:
    twice = numbers + numbers
    return twice + twice


def quantize_embeddings(module: nn.Module, grids: Mapping[str, Grid]) -> None:
    """Replaces every embedding inside `module`, in place.

    Args:
        grids: grids of the weights, by `provenance.weight_sha256`; int8 if a weight is missing.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Embedding):
                grid = grids.get(weight_sha256(child.weight.detach().numpy()))
                kind = PaletteEmbedding if grid is not None and grid.kind == "table" else Int8Embedding
                setattr(parent, name, kind(child))
