"""What each precision is called and how each tower's weights and products are stored for ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mobileclip_deploy.model.precision import precision_of

if TYPE_CHECKING:
    from mobileclip_deploy.model.variants import TowerName

__all__ = ["RECIPES", "Products", "Recipe", "recipe_of"]

Products = Literal["float", "dynamic", "four bits"]


@dataclass(frozen=True)
class Recipe:
    """How weights are stored; what the files of a precision are called is the layout's business.

    `weights` are float32, float16 or int8. `products` (matrix products with a weight): as other weights (`float`), in
    int8 with inputs measured at run time (`dynamic`), or with int4 weights in blocks. `static` towers run convolutions
    and products in int8, with ranges measured when they are exported.
    """

    weights: Literal["float32", "float16", "int8"] = "int8"
    products: dict[TowerName, Products] | None = None
    static: tuple[TowerName, ...] = ()

    def products_of(self, tower: TowerName) -> Products:
        """How a tower's matrix products are stored."""
        return "float" if self.products is None else self.products[tower]


RECIPES: dict[str, Recipe] = {
    "fp32": Recipe("float32"),
    "fp16": Recipe("float16"),
    # Weights alone: transformers.js' int8. w8a8 is the one that is fast: q8, what the client loads by default on a CPU.
    "w8": Recipe(),
    "w8a8": Recipe(products={"image": "float", "text": "dynamic"}, static=("image",)),
    "w4": Recipe(products={"image": "four bits", "text": "four bits"}),
}

# As w4, for the layers that TowerJob.four_bit names; the others have 8 bits. Chosen by a search, not by name.
MIXED = RECIPES["w4"]


def recipe_of(precision: str) -> Recipe:
    """The recipe of a precision, "mixed" among them; of one with a table of its own that of the rest."""
    return MIXED if precision == "mixed" else RECIPES[precision_of(precision).rest]
