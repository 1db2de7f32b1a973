"""Which weight an ExecuTorch program stores how.

XNNPACK takes convolutions with int8 activations or in float32, and linear layers, the text tower's 1 x 1 convolutions
among them, with activations that are measured at run time too. It has no smallest size below which a weight is left
whole. The other backends store floats alone.
"""

from __future__ import annotations

from torch import nn

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.storage import Layer, Storage, stored_as, with_table

__all__ = ["GROUP", "stays_float", "storage"]

GROUP = 32


def storage(tower: TowerName, module: nn.Module, precision: str) -> Storage:
    """How a tower or classifier is stored.

    Args:
        module: what is exported, folded.
        precision: with that of the table of words, where that is another (`w4-table-w6p`).
    """
    return with_table(module, precision, lambda name: _storage(tower, module, name))


def _storage(tower: TowerName, module: nn.Module, precision: str) -> Storage:
    eight = integers(8, scale_bytes=4)

    def choose(layer: Layer) -> Grid | None:
        if precision in ("fp32", "fp16") or layer.module is None:
            return None
        if layer.is_table:  # four numbers of six bits are packed in three bytes
            return Grid(6, "table") if precision == "w6p" and layer.inputs % 4 == 0 else eight
        if not layer.is_product(tower):
            floats = tower == "image" and stays_float(layer.name, layer.is_depthwise)
            return eight if precision == "w8a8" and not floats else None
        # Every number of the embedding comes of the projection alone: 4 bits there cost nano's text tower more than in
        # all other products together, and save a thousandth of its bytes.
        if precision != "w4" or layer.is_projection:
            return eight
        return integers(4, block=GROUP, scale_bytes=4) if layer.inputs % GROUP == 0 else None

    return stored_as(module, Grid(16 if precision == "fp16" else 32), choose)


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
