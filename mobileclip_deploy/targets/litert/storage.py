"""Which weight a LiteRT file stores how.

Integers are the weights of convolutions, products and tables of more than 2,048 numbers, but for depthwise ones, which
are float16. What else there is stays float32: a classifier's label embeddings too, and the triangle that pooling counts
with.
"""

from __future__ import annotations

from torch import nn

from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.storage import Layer, Storage, stored_as

__all__ = ["BLOCK", "is_measured", "storage"]

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

    def choose(layer: Layer) -> Grid | None:
        if precision == "fp32":
            return None
        # A classifier's label embeddings, whose products are logits: 256 steps from -100 to 100 would be too coarse.
        if layer.module is None:
            return None
        if precision == "fp16":
            return Grid(16)
        if not layer.is_large:
            return None
        if _is_depthwise(layer):
            return Grid(16)
        four_asked = precision == "w4" or (precision == "mixed" and layer.parameter in four_bit)
        if four_asked and _has_four_bits(layer):
            return four
        return eight

    return stored_as(module, Grid(32), choose)


def is_measured(parameter: str) -> bool:
    """Whether a weight's product takes int8 whose range was measured beforehand, at precisions that measure.

    Those of feed-forward blocks do, not those of squeeze-and-excite: they take most of the time. All others round what
    comes to int8 by the range that it has. Of S0's image tower on golden inputs, which reach beyond what was measured,
    the worst cosine is 0.9874 where all products have measured ranges and 0.9988 where these have, which is as fast.
    """
    return parameter.endswith((".fc1.weight", ".fc2.weight")) and ".se." not in parameter


def _is_depthwise(layer: Layer) -> bool:
    """XNNPACK has no kernel for their integers with float activations, and LiteRT's own takes five times as long as
    XNNPACK's in float32. With measured ranges there is one, but each of their channels has a range of its own, and all
    would share a scale."""
    return isinstance(layer.module, nn.Conv2d) and layer.module.groups > 1


def _has_four_bits(layer: Layer) -> bool:
    """Of convolutions there are kernels for 8 bits alone; what is on the main path keeps those everywhere."""
    return isinstance(layer.module, nn.Linear) and not layer.is_on_main_path and layer.inputs % BLOCK == 0
