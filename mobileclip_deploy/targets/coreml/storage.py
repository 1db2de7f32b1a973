"""Which weight a Core ML package stores how.

On a grid is every weight of more than 2,048 numbers of a convolution, linear layer or embedding, and a classifier's
label embeddings; biases, norms, positional embeddings and masks stay float16.
"""

from __future__ import annotations

from torch import nn

from mobileclip_deploy.targets.coreml.recipes import is_older, recipe_of
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.storage import Layer, Storage, divisor, stored_as

__all__ = ["storage"]

# Outputs that share a table (iOS 18), inputs that share a scale (4 bits): the largest that divides.
GROUPS = (32, 16, 8)


def storage(
    module: nn.Module, precision: str, deployment_target: str, four_bit: frozenset[str] = frozenset()
) -> Storage:
    """How a tower or classifier is stored.

    Args:
        module: what is exported, folded.
        deployment_target: before iOS18 a palettized weight has one table and a scale a zero point; since then there is
            a table a group of outputs.
        four_bit: for precision "mixed": names of the weights to store at 4 bits; the others have 8.
    """
    recipe = recipe_of(precision)
    new = not is_older(deployment_target, "iOS18")

    def choose(layer: Layer) -> Grid | None:
        if recipe.weights == "plain" or not layer.is_large:
            return None
        eight = integers(8, axis=layer.axis, scale_bytes=2 if new else 3)
        kept = layer.parameter not in four_bit if precision == "mixed" else layer.is_on_main_path
        if recipe.bits == 8 or layer.is_depthwise or kept:
            return eight
        if recipe.weights == "palette":
            group = divisor(layer.outputs, GROUPS) if new else None
            return Grid(recipe.bits, "table", layer.axis, group=group, pruned=recipe.sparsity)
        block = divisor(layer.inputs, GROUPS)
        return eight if block is None else integers(recipe.bits, axis=layer.axis, block=block, scale_bytes=2)

    return stored_as(module, Grid(32 if precision == "fp32" else 16), choose)
