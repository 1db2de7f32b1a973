"""Storage of weights in MLX files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.rules import Shared, StorageRules

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.precision import Precision
    from mobileclip_deploy.network.model.variants import TowerName
    from mobileclip_deploy.targets.storage import Layer

# Inputs that share a scale: MLX's groups. Its 128 would save a hundredth. At 4 bits 32, which costs no more than MLX's
# own groups of 64: here the zero point follows from the scale, there it is stored with it.
GROUPS = (64, 32)
EIGHT = Grid(8, "integers", low=-127, high=127, scale_bytes=2)
# The scale is searched for, and a negative one mirrors the range.
FOUR = Grid(4, "integers", low=-8, high=7, scale_bytes=2)


def _in_floats(layer: Layer, tower: TowerName, precision: Precision) -> bool:
    """Returns whether a layer stays in floats. MLX multiplies by integers in groups of inputs, and has no such
    convolution. So 1 x 1 convolutions, linear layers and the table of words are on a grid."""
    window = layer.weight.ndim > 2 and layer.weight[0, 0].numel() > 1
    return window or layer.is_grouped or all(layer.inputs % size for size in GROUPS)


RULES = StorageRules(
    eight=Shared(EIGHT, GROUPS),
    four=Shared(FOUR, GROUPS[-1:]),
    # The table adds most of the noise of a text tower at 4 bits; no product of MLX uses it.
    words=Shared(FOUR, (16,)),
    floats=_in_floats,
    float_bits=16,
)
