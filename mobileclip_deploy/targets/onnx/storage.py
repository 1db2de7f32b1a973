"""Which weight an ONNX file stores how.

On a grid is every weight of more than 2,048 numbers of a convolution, linear layer or embedding; biases, norms,
positional embeddings and masks stay float32. So do a classifier's label embeddings, whose products are logits: 256
steps from -100 to 100 would be too coarse.
"""

from __future__ import annotations

from torch import nn

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.onnx.recipes import recipe_of
from mobileclip_deploy.targets.storage import Layer, Storage, stored_as, with_table

__all__ = ["BLOCK", "TABLE_BLOCK", "storage"]

BLOCK = 32
# The table's noise is what a text tower at 4 bits has most of. Its scales can be float16 (those of products cannot), so
# blocks half as long cost it no byte.
TABLE_BLOCK = 16


def storage(tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str] = frozenset()) -> Storage:
    """How a tower or classifier is stored, its table of words perhaps at a precision of its own.

    Args:
        module: what is exported, folded.
        four_bit: for precision "mixed": names of the weights to store at 4 bits, where these kinds can be; the others
            have 8.
    """
    return with_table(module, precision, lambda name: _storage(tower, module, name, four_bit))


def _storage(tower: TowerName, module: nn.Module, precision: str, four_bit: frozenset[str]) -> Storage:
    recipe = recipe_of(precision)
    eight = integers(8, scale_bytes=4)

    def choose(layer: Layer) -> Grid | None:
        if recipe.weights != "int8" or layer.module is None or not layer.is_large:
            return None
        # ONNX Runtime has 4-bit products and look-ups, no 4-bit convolutions. The projection would cost nano's text
        # tower 3 dB of its 21.
        whole_blocks = layer.is_table and layer.weight.shape[1] % TABLE_BLOCK == 0
        can = whole_blocks or (layer.is_product(tower) and not layer.is_projection)
        if recipe.products_of(tower) != "four bits" or not can:
            return eight
        if precision == "mixed" and layer.parameter not in four_bit:
            return eight
        block, scale_bytes = (TABLE_BLOCK, 2) if layer.is_table else (BLOCK, 4)
        # The scale of a block is searched for, and a negative one mirrors the range.
        return Grid(4, "integers", block=block, low=-8, high=7, scale_bytes=scale_bytes)

    return stored_as(module, Grid(16 if recipe.weights == "float16" else 32), choose)
