"""Which weight a LiteRT file stores how.

On a grid are the weights of convolutions, products and tables of more than 2,048 numbers; at `w8a8` all but those of
the stem, of the downsampling and of depthwise convolutions. What else there is stays float32: a classifier's label
embeddings too, and the triangle that pooling counts with.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from mobileclip_deploy.targets.depthwise import KERNEL_ROWS, split_convolutions
from mobileclip_deploy.targets.storage import Grid, Layer, Storage, integers, stored_as
from mobileclip_deploy.towers.tower import ImageTower

__all__ = ["BLOCK", "storage"]

BLOCK = 32
"""So many inputs of an output share a scale at 4 bits, as XNNPACK's kernels want it."""


def storage(module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()) -> Storage:
    """How a tower or classifier is stored.

    Args:
        module: what is exported, folded.
        four_bit: for precision "mixed": names of the weights to store at 4 bits, where these kinds can be; the others
            have 8.
    """
    # A scale of four bytes, and beside it a zero point of eight, which every runtime wants though it is 0.
    eight = integers(8, scale_bytes=12)
    # The scale of a block is searched for; what it cuts off at the lower end reaches one step further.
    four = Grid(4, "integers", block=BLOCK, low=-8, high=7, scale_bytes=2, positive=True, bfloat16=True)
    split = frozenset() if precision in ("fp32", "fp16", "w8a8") else _split(module)

    def choose(layer: Layer) -> Grid | None:
        if precision == "fp32":
            return None
        # A classifier's label embeddings, whose products are logits: 256 steps from -100 to 100 would be too coarse.
        if layer.module is None:
            return None
        if precision == "fp16":
            return Grid(16)
        if _stays_float(layer) if precision == "w8a8" else not layer.is_large:
            return None
        four_asked = precision == "w4" or (precision == "mixed" and layer.parameter in four_bit)
        if four_asked and _has_four_bits(layer):
            return four
        return replace(eight, bands=KERNEL_ROWS if layer.module in split else ())

    return stored_as(module, Grid(32), choose)


def _split(module: nn.Module) -> frozenset[nn.Module]:
    """The convolutions that are written as three, which maps of few rows are too small for."""
    image = next((part for part in module.modules() if isinstance(part, ImageTower)), None)
    if image is None:
        return frozenset()
    return frozenset(split_convolutions(image, torch.full((1, *image.input_shape), 0.5)))


def _stays_float(layer: Layer) -> bool:
    """Where int8 activations cost most and gain little: the stem, convolutions that halve a map, and depthwise ones.

    Of a depthwise convolution each channel has its own range, and all share a scale.
    """
    depthwise = isinstance(layer.module, nn.Conv2d) and layer.module.groups > 1
    return depthwise or layer.name.startswith("stem.") or ".downsample.0.conv" in layer.name


def _has_four_bits(layer: Layer) -> bool:
    """Of convolutions there are kernels for 8 bits alone; what is on the main path keeps those everywhere."""
    return isinstance(layer.module, nn.Linear) and not layer.is_on_main_path and layer.inputs % BLOCK == 0
