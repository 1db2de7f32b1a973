"""Which weight a LiteRT file stores how.

On a grid are the weights of convolutions, products and tables of more than 2,048 numbers; at `w8a8` all but those of
the stem, of the downsampling and of depthwise convolutions. What else there is stays float32, and so does the triangle
that pooling counts with.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from mobileclip_deploy.targets.depthwise import KERNEL_ROWS, is_split
from mobileclip_deploy.targets.storage import Grid, Layer, Storage, integers, stored_as

__all__ = ["BLOCK", "storage"]

BLOCK = 32
"""So many inputs of an output share a scale at 4 bits, as XNNPACK's kernels want it."""


def storage(module: nn.Module, precision: str) -> Storage:
    """How a tower or classifier is stored.

    Args:
        module: what is exported, folded.
    """
    eight = integers(8, scale_bytes=4)
    # The scale of a block is searched for; what it cuts off at the lower end reaches one step further.
    four = Grid(4, "integers", block=BLOCK, low=-8, high=7, scale_bytes=2)

    def choose(layer: Layer) -> Grid | None:
        if precision == "fp32":
            return None
        if precision == "fp16":
            return None if layer.module is None else Grid(16)
        if _stays_float(layer) if precision == "w8a8" else not layer.is_large:
            return None
        if precision == "w4" and _has_four_bits(layer):
            return four
        split = isinstance(layer.module, nn.Conv2d) and is_split(layer.module)
        return replace(eight, axis=layer.axis, bands=KERNEL_ROWS if split else ())

    return stored_as(module, Grid(32), choose)


def _stays_float(layer: Layer) -> bool:
    """Where int8 activations cost most and gain little: the stem, convolutions that halve a map, and depthwise ones.

    Of a depthwise convolution each channel has its own range, and all share a scale.
    """
    if layer.module is None and not layer.is_large:  # the triangle
        return True
    depthwise = isinstance(layer.module, nn.Conv2d) and layer.module.groups > 1
    return depthwise or layer.name.startswith("stem.") or ".downsample.0.conv" in layer.name


def _has_four_bits(layer: Layer) -> bool:
    """Of convolutions there are kernels for 8 bits alone; what is on the main path keeps those everywhere."""
    return isinstance(layer.module, nn.Linear) and not layer.is_on_main_path and layer.inputs % BLOCK == 0
