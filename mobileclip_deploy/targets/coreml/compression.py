"""Weights of a converted model made smaller: quantized, palettized, pruned, as a recipe says.

Compressed is every constant of more than 2,048 elements that a convolution, linear layer, matrix product or embedding
look-up (`gather`) takes as its weight; biases, norms, positional embeddings and tables of zeros and ones stay float16.
Depthwise convolutions never go below 8 bits: few bytes, and the first to break, since folding adds the identity branch
to one tap of each; nor do the layers of `main_path`. coremltools writes the constexpr operations; it is given a choice
per weight, because its own skips silently what its one group or block size does not divide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.model.provenance import weight_sha256
from mobileclip_deploy.targets.coreml.palette import palette
from mobileclip_deploy.targets.coreml.recipes import Recipe, is_older

__all__ = ["THRESHOLD", "compress_weights"]

# Smaller weights are not worth their scales or tables; coremltools' default.
THRESHOLD = 2048
WEIGHTED = {"conv", "linear", "matmul", "gather"}
# Channels that share a look-up table (iOS 18), inputs that share a scale (4 bits): the largest that divides.
GROUPS = (32, 16, 8)


@dataclass(frozen=True)
class _Weight:
    """A constant's shape, and where in it the output and the input channels are."""

    shape: tuple[int, ...]
    outputs: int
    inputs: int
    sha256: str

    @classmethod
    def of(cls, value: npt.NDArray[np.generic], users: set[str]) -> _Weight:
        rank, sha256 = value.ndim, weight_sha256(value)
        axes = (rank - 1, rank - 2) if "matmul" in users else (0, 1)
        return cls(value.shape, *axes, sha256)

    @property
    def depthwise(self) -> bool:
        return len(self.shape) == 4 and self.shape[1] == 1


def compress_weights(model: Any, recipe: Recipe, deployment_target: str, may_be_narrow: Callable[[str], bool]) -> Any:
    """Compress the weights of a converted model (coremltools' MLModel, not loaded): a new MLModel.

    Args:
        model: converted in float16, at the deployment target.
        recipe: with weights that are not plain.
        deployment_target: before iOS18 a palettized weight has one table, since then one a group of channels.
        may_be_narrow: whether a weight, by `provenance.weight_sha256`, may go below 8 bits.
    """
    weights = _weights(model)
    wide = {
        name: weight
        for name, weight in weights.items()
        if recipe.bits == 8 or weight.depthwise or not may_be_narrow(weight.sha256)
    }
    narrow = {name: weight for name, weight in weights.items() if name not in wide}
    if narrow:
        model = _narrow(model, narrow, recipe, deployment_target)
    return _quantized(model, dict.fromkeys(wide, _eight_bits())) if wide else model


def _weights(model: Any) -> dict[str, _Weight]:
    import coremltools.optimize.coreml as cto

    found = cto.get_weights_metadata(model, weight_threshold=THRESHOLD)
    users = {name: {op.op_type for op in weight.child_ops} for name, weight in found.items()}
    return {
        name: _Weight.of(weight.val, users[name])
        for name, weight in found.items()
        if weight.val.ndim >= 2 and weight.unique_values > 2 and users[name] <= WEIGHTED
    }


def _narrow(model: Any, weights: dict[str, _Weight], recipe: Recipe, deployment_target: str) -> Any:
    """Fewer than 8 bits a weight."""
    import coremltools.optimize.coreml as cto

    if recipe.weights == "linear":
        return _quantized(model, {name: _in_blocks(weight, recipe.bits) for name, weight in weights.items()})
    grouped = not is_older(deployment_target, "iOS18")
    choices = {name: _palettized(weight, recipe, grouped) for name, weight in weights.items()}
    if not recipe.sparsity:
        return cto.palettize_weights(model, _config(choices))
    pruner = cto.OpMagnitudePrunerConfig(target_sparsity=recipe.sparsity, weight_threshold=THRESHOLD)
    pruned = cto.prune_weights(model, _config(dict.fromkeys(weights, pruner)))
    # The pruned weight is the result of an operation of this name, whose nonzero values are what is palettized.
    after = {f"{name}_sparsified": choice for name, choice in choices.items()}
    return cto.palettize_weights(pruned, _config(after), joint_compression=True)


def _quantized(model: Any, choices: dict[str, Any]) -> Any:
    import coremltools.optimize.coreml as cto

    return cto.linear_quantize_weights(model, _config(choices))


def _config(choices: dict[str, Any]) -> Any:
    """These weights and no others."""
    import coremltools.optimize.coreml as cto

    return cto.OptimizationConfig(global_config=None, op_name_configs=choices)


def _eight_bits() -> Any:
    """Symmetric int8, a scale an output channel."""
    from coremltools.optimize.coreml import OpLinearQuantizerConfig

    return OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=THRESHOLD
    )


def _in_blocks(weight: _Weight, bits: int) -> Any:
    """Symmetric integers, a scale a block of input channels of an output channel; int8 where no block size divides."""
    from coremltools.optimize.coreml import OpLinearQuantizerConfig

    block = _divisor(weight.shape[weight.inputs])
    if block is None:
        return _eight_bits()
    return OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype=f"int{bits}",
        granularity="per_block",
        block_size=block,
        weight_threshold=THRESHOLD,
    )


def _palettized(weight: _Weight, recipe: Recipe, grouped: bool) -> Any:
    """A table a weight, or one a group of output channels."""
    from coremltools.optimize.coreml import OpPalettizerConfig

    def table(values: Any) -> Any:
        return palette(values, recipe.bits, skip_zeros=recipe.sparsity > 0)

    group = _divisor(weight.shape[weight.outputs]) if grouped else None
    granularity = {} if group is None else {"granularity": "per_grouped_channel", "group_size": group}
    return OpPalettizerConfig(mode="custom", lut_function=table, weight_threshold=THRESHOLD, **granularity)


def _divisor(channels: int) -> int | None:
    return next((size for size in GROUPS if channels % size == 0), None)
