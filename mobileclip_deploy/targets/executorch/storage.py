"""How an ExecuTorch program stores weights.

XNNPACK takes convolutions with int8 activations or in float32, and linear layers, the text tower's 1 x 1 convolutions
among them, with activations that are measured at run time too. The other backends store floats alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.rules import Shared, StorageRules

if TYPE_CHECKING:
    from mobileclip_deploy.model.precision import Precision
    from mobileclip_deploy.model.variants import TowerName
    from mobileclip_deploy.targets.storage import Layer

GROUP = 32


def _coarse(layer: Layer, tower: TowerName, precision: Precision) -> bool:
    """Products as integers, and the table of words as a palette: four numbers of six bits are packed in three bytes."""
    return layer.inputs % 4 == 0 if precision.kind == "table" else not layer.is_table


def _floats(layer: Layer, tower: TowerName, precision: Precision) -> bool:
    if layer.is_table:
        return False
    if layer.is_product(tower):
        return precision.bits == 4 and not layer.is_projection and layer.inputs % GROUP != 0
    return not precision.calibrated or (tower == "image" and stays_float(layer.name, layer.is_depthwise))


RULES = StorageRules(
    eight=integers(8, scale_bytes=4),
    four=Shared(integers(4, scale_bytes=4), (GROUP,)),
    table=Shared(Grid(6, "table")),
    coarse=_coarse,
    floats=_floats,
    small=True,
)


def stays_float(name: str, depthwise: bool) -> bool:
    """Whether a convolution of an image tower computes in float32 at `w8a8`.

    Where int8 activations cost most and gain nothing: depthwise convolutions, whose channels have ranges of their own
    and share a scale, and what is in no residual branch, the stem and the downsampling. nano's image tower has 30 dB
    so, and takes 0.71 of its float32 time; with all of it in int8 it had 18 dB, and took 0.81. The first convolution of
    squeeze-and-excite goes with the ReLU behind it, which is no product.

    Args:
        name: of the layer in the encoder.
    """
    return depthwise or name.startswith("stem.") or ".downsample." in name or name.endswith(".se.fc1")
