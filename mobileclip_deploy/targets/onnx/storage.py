"""How an ONNX file stores weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.rules import Shared, StorageRules

if TYPE_CHECKING:
    from mobileclip_deploy.model.precision import Precision
    from mobileclip_deploy.model.variants import TowerName
    from mobileclip_deploy.targets.storage import Layer

# The scale of a block is searched for, and a negative one mirrors the range.
FOUR = Grid(4, "integers", block=32, low=-8, high=7, scale_bytes=4)


def _coarse(layer: Layer, tower: TowerName, precision: Precision) -> bool:
    """ONNX Runtime has 4-bit products and look-ups, no 4-bit convolutions. The projection would cost nano's text tower
    3 dB of its 21."""
    return layer.is_table or (layer.is_product(tower) and not layer.is_projection)


RULES = StorageRules(
    eight=integers(8, scale_bytes=4),
    four=Shared(FOUR),
    # The table's noise is what a text tower at 4 bits has most of. Its scales can be float16 (those of products
    # cannot), so blocks half as long cost it no byte.
    words=Shared(replace(FOUR, scale_bytes=2), (16,)),
    coarse=_coarse,
)
