"""Which weight a LiteRT file stores how.

On a grid are the weights of convolutions, products and tables; what else there is stays float32, and so does the
triangle that pooling counts with.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.targets.storage import Grid, Layer, Storage, integers, stored_as

__all__ = ["storage"]


def storage(tower: TowerName, module: nn.Module, precision: str) -> Storage:
    """How a tower or classifier is stored.

    Args:
        module: what is exported, folded.
    """

    eight = integers(8, scale_bytes=4)

    def choose(layer: Layer) -> Grid | None:
        if precision == "fp32":
            return None
        if precision == "fp16":
            return None if layer.module is None else Grid(16)
        if not layer.is_large:
            return None
        return replace(eight, axis=layer.axis)

    return stored_as(module, Grid(32), choose)
