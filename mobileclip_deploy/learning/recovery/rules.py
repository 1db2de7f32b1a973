"""What each target stores a weight as: the grids of `recover`, by the constants of the targets themselves."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mobileclip_deploy.learning.recovery.grids import BlockGrid, Grid, PaletteGrid, SearchedGrid
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets.coreml.compression import GROUPS
from mobileclip_deploy.targets.coreml.compression import THRESHOLD as COREML_THRESHOLD
from mobileclip_deploy.targets.coreml.main_path import is_on_main_path
from mobileclip_deploy.targets.executorch.quantization import GROUP
from mobileclip_deploy.targets.onnx.integers import BLOCK
from mobileclip_deploy.targets.onnx.weights import TABLE_BLOCK
from mobileclip_deploy.targets.onnx.weights import THRESHOLD as ONNX_THRESHOLD

__all__ = ["ABSORBING", "RULES", "Layer", "Rule"]

Layer = nn.Conv2d | nn.Linear | nn.Embedding
Rule = Callable[[TowerName, str, str, Layer], Grid | None]
"""Of tower, precision, a layer's name in the tower and the layer: its grid, or None where the target keeps it float."""


def _coreml(tower: TowerName, precision: str, name: str, layer: Layer) -> Grid | None:
    """Depthwise convolutions and the main path never below 8 bits; of a table one a weight, as before iOS 18."""
    weight = layer.weight
    if weight.numel() <= COREML_THRESHOLD:
        return None
    if precision in ("w8", "w8a8") or _depthwise(layer) or is_on_main_path(name):
        return BlockGrid(weight, 8, None)
    if precision == "w4":
        block = next((size for size in GROUPS if weight.shape[1] % size == 0), None)
        return BlockGrid(weight, 8, None) if block is None else BlockGrid(weight, 4, block)
    return PaletteGrid(weight, int(precision[1]))


def _onnx(tower: TowerName, precision: str, name: str, layer: Layer) -> Grid | None:
    """int4 in products and in the table of words; the last product and convolutions have 8 bits."""
    weight = layer.weight
    if weight.numel() <= ONNX_THRESHOLD:
        return None
    if precision == "w4" and name != "projection":
        if isinstance(layer, nn.Embedding):
            return SearchedGrid(weight, TABLE_BLOCK)
        if _is_product(tower, layer) and weight.shape[1] % BLOCK == 0:
            return SearchedGrid(weight, BLOCK)
    return BlockGrid(weight, 8, None)


def _xnnpack(tower: TowerName, precision: str, name: str, layer: Layer) -> Grid | None:
    """The table of words at 8 bits; convolutions at 8 with int8 activations, else float."""
    if isinstance(layer, nn.Embedding):
        return BlockGrid(layer.weight, 8, None)
    if not _is_product(tower, layer):
        return BlockGrid(layer.weight, 8, None) if precision == "w8a8" else None
    if precision != "w4":
        return BlockGrid(layer.weight, 8, None)
    return BlockGrid(layer.weight, 4, GROUP) if layer.weight.shape[1] % GROUP == 0 else None


RULES: dict[str, Rule] = {"coreml": _coreml, "onnx": _onnx, "executorch": _xnnpack}
"""By target; ExecuTorch's is XNNPACK's, the only backend with precisions to recover."""

ABSORBING = ("coreml", "onnx")
"""Targets whose weights are trained with the layer scales multiplied into them. XNNPACK's have a smallest scale (2^-12,
`get_symmetric_quantization_config`), below which weights so small would fall; its export leaves layer scales alone."""


def _depthwise(layer: Layer) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.weight.shape[1] == 1


def _is_product(tower: TowerName, layer: Layer) -> bool:
    """Whether the export writes it as a matrix product: text towers' 1 x 1 convolutions among them."""
    if isinstance(layer, nn.Conv2d):
        return tower == "text" and layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)
