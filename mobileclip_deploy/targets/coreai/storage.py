"""Which weight a Core AI program stores how: the rules of Core ML's packages for iOS 18, but for the table of words.

On a grid is every weight of more than 2,048 numbers of a convolution, linear layer or embedding, and a classifier's
label embeddings; biases, norms, positional embeddings and masks stay float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from mobileclip_deploy.model.precision import precision_of
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.storage import Layer, Storage, divisor, stored_as

__all__ = ["RECIPES", "Recipe", "reported", "storage"]

# Outputs that share a table, inputs that share a scale: the largest that divides.
GROUPS = (32, 16, 8)
# Of the table of words at 4 bits. Its noise is what such a text tower has most of: nano's has a worst case of 20.0 dB
# at w4p with these; with a palette each 32 rows it had 17.5, and failed its gate.
TABLE_GROUPS = (16, 8)


@dataclass(frozen=True)
class Recipe:
    """How weights are stored that are worth a grid: as they are, as integers times a scale, or as indices of a table
    of float16."""

    weights: Literal["plain", "linear", "palette"]
    bits: int


RECIPES: dict[str, Recipe] = {
    "fp32": Recipe("plain", 32),
    "fp16": Recipe("plain", 16),
    "w8": Recipe("linear", 8),
    "w6p": Recipe("palette", 6),
    "w4p": Recipe("palette", 4),
    "w4": Recipe("linear", 4),
}


def storage(module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()) -> Storage:
    """How a tower or classifier is stored.

    Args:
        module: what is exported, folded.
        four_bit: for precision "mixed": names of the weights to store at 4 bits; the others have 8.
    """
    recipe = RECIPES["w4" if precision == "mixed" else precision]

    def choose(layer: Layer) -> Grid | None:
        if recipe.weights == "plain" or not layer.is_large:
            return None
        eight = integers(8, axis=layer.axis, scale_bytes=2)
        kept = layer.parameter not in four_bit if precision == "mixed" else layer.is_on_main_path
        if recipe.bits == 8 or layer.is_depthwise or kept:
            return eight
        words = layer.is_table and recipe.bits == 4
        if recipe.weights == "palette" and not words:
            return Grid(recipe.bits, "table", layer.axis, group=divisor(layer.outputs, GROUPS))
        block = divisor(layer.inputs, TABLE_GROUPS if words else GROUPS)
        # The scale of a block is searched for; what it cuts off at the lower end reaches one step further.
        four = Grid(4, "integers", layer.axis, block, low=-8, high=7, scale_bytes=2, positive=True)
        return eight if block is None else four

    return stored_as(module, Grid(32 if precision == "fp32" else 16), choose)


def reported(precisions: Mapping[TowerName, str]) -> str | None:
    """What others report of these precisions on devices, which nothing here can see; None for those without reports."""
    blocks = [name for tower, name in precisions.items() if _has_blocks(tower, name)]
    if not blocks:
        return None
    return (
        f"{' and '.join(dict.fromkeys(blocks))}: integers with a scale a block are reported to answer wrongly on the "
        "Neural Engine of iOS 27, there of 8 bits (coreai-models 279); run the bundle's golden answers on a device "
        "before you ship it."
    )


def _has_blocks(tower: TowerName, precision: str) -> bool:
    found = precision_of(precision)
    table = found.table or found.rest
    return found.rest in ("w4", "mixed") or (tower == "text" and table in ("w4", "w4p"))
