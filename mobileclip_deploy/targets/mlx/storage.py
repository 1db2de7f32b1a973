"""How an MLX file stores weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.rules import Shared, StorageRules

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.precision import Precision
    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.targets.storage import Layer

# Inputs that share a scale: MLX's groups. Its 128 would save a hundredth. At 4 bits 32, which costs no more than MLX's
# own groups of 64 do: what 0 stands for follows from the scale here, and stands beside it there.
GROUPS = (64, 32)
EIGHT = Grid(8, "integers", low=-127, high=127, scale_bytes=2)
# The scale is searched for, and a negative one mirrors the range.
FOUR = Grid(4, "integers", low=-8, high=7, scale_bytes=2)


def _in_floats(layer: Layer, tower: TowerName, precision: Precision) -> bool:
    """MLX multiplies by integers, groups of inputs, and has no convolution by them: 1 x 1 convolutions, linear layers
    and the table of words stand on a grid."""
    window = layer.weight.ndim > 2 and layer.weight[0, 0].numel() > 1
    return window or layer.is_grouped or all(layer.inputs % size for size in GROUPS)


RULES = StorageRules(
    eight=Shared(EIGHT, GROUPS),
    four=Shared(FOUR, GROUPS[-1:]),
    # The table's noise is what a text tower at 4 bits has most of; no product of MLX's takes it.
    words=Shared(FOUR, (16,)),
    floats=_in_floats,
    float_bits=16,
)
