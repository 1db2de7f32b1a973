"""How a LiteRT file stores weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.rules import Shared, StorageRules

if TYPE_CHECKING:
    from mobileclip_deploy.model.precision import Precision
    from mobileclip_deploy.model.variants import TowerName
    from mobileclip_deploy.targets.storage import Layer


def _depthwise(layer: Layer, tower: TowerName, precision: Precision) -> bool:
    """XNNPACK has no kernel for their integers with float activations, and LiteRT's own takes five times as long as
    XNNPACK's in float32. With measured ranges there is one, but each of their channels has a range of its own, and all
    would share a scale."""
    return layer.is_grouped


def _coarse(layer: Layer, tower: TowerName, precision: Precision) -> bool:
    """Whether a layer may have fewer than 8 bits. Convolutions have kernels for 8 bits alone. Layers on the main path
    keep 8 bits everywhere."""
    return layer.is_linear and not layer.is_on_main_path


RULES = StorageRules(
    # A scale of four bytes, and beside it a zero point of eight, which every runtime wants though it is 0.
    eight=integers(8, scale_bytes=12),
    # Blocks as XNNPACK's kernels want them. The scale of one is searched for; what it cuts off at the lower end reaches
    # one step further.
    four=Shared(Grid(4, "integers", low=-8, high=7, scale_bytes=2, positive=True, bfloat16=True), (32,)),
    coarse=_coarse,
    floats=_depthwise,
    float_bits=16,
    all_halves=False,
)


def is_measured(parameter: str) -> bool:
    """Whether a weight's product takes int8 whose range was measured beforehand, at precisions that measure.

    Those of feed-forward blocks do, not those of squeeze-and-excite: they take most of the time. All others round what
    comes to int8 by the range that it has. Of S0's image tower on golden inputs, which reach beyond what was measured,
    the worst cosine is 0.9874 where all products have measured ranges and 0.9988 where these have, which is as fast.
    """
    return parameter.endswith((".fc1.weight", ".fc2.weight")) and ".se." not in parameter
