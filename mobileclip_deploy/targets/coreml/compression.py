"""Compression of a converted model: weights are quantized, palettized or pruned as its storage says.

Activations are rounded to int8, with ranges measured by this package's evaluator. coremltools writes the constexpr
operations. It gets a setting for each weight: its own single group or block size silently skips weights that it does
not divide.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.network.model.provenance import weight_sha256
from mobileclip_deploy.targets.coreml.runner import feeds
from mobileclip_deploy.targets.grids.grid import Grid
from mobileclip_deploy.targets.grids.palette import palette
from mobileclip_deploy.targets.mil import Program, load
from mobileclip_deploy.targets.ranges import ranges_of
from mobileclip_deploy.targets.storage import THRESHOLD, Storage, by_numbers, require_all
from mobileclip_deploy.targets.vendor_internals.coremltools import APPLY_PASSES, measured


def compress_weights(model: Any, module: nn.Module, storage: Storage) -> Any:
    """Compresses the weights of a converted model (coremltools' MLModel, not loaded). Returns a new MLModel.

    Args:
        model: converted in float16, at the deployment target of the storage.
        module: the module that it was converted from.
    """
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = model.get_spec()
    program = load(spec, spec.specificationVersion, model.weights_dir)
    names = by_numbers(module, storage)
    constants = [op for function in program.functions.values() for op in function.find_ops(op_type="const")]
    values = {op.name: op.val.val for op in constants}
    # The same as coremltools' `get_weights_metadata`, which sorts each weight to count its values.
    large = {name: array for name, array in values.items() if isinstance(array, np.ndarray) and array.size > THRESHOLD}
    layers = {name: names.get(weight_sha256(value)) for name, value in large.items()}
    require_all(storage, [weight for weight in layers.values() if weight is not None])
    grids = {name: storage[weight] for name, weight in layers.items() if weight is not None}
    # Each of coremltools' public functions converts the whole program for one pass; here it is converted once for all.
    return APPLY_PASSES()(model, list(_passes(grids)), pymil_load_func=lambda **_: program)


def _passes(grids: Mapping[str, Grid]) -> Iterator[Any]:
    """Yields coremltools' passes over a program, in order: tables first, then integers in blocks, then other
    integers."""
    from coremltools.optimize.coreml import OpMagnitudePrunerConfig

    tables = {name: _table(grid) for name, grid in grids.items() if grid.kind == "table"}
    sparsity = next((grids[name].pruned for name in tables), 0.0)
    if sparsity:
        pruner = OpMagnitudePrunerConfig(target_sparsity=sparsity, weight_threshold=THRESHOLD)
        yield _pass("prune_weights", dict.fromkeys(tables, pruner))
        # The pruned weight is the result of an operation of this name, whose nonzero values are palettized.
        tables = {f"{name}_sparsified": choice for name, choice in tables.items()}
    if tables:
        yield _pass("palettize_weights", tables, joint=sparsity > 0)
    integers = {name: grid for name, grid in grids.items() if grid.kind == "integers"}
    for eight in (False, True):
        if kind := {name: _integers(grid) for name, grid in integers.items() if (grid.bits == 8) == eight}:
            yield _pass("linear_quantize_weights", kind)


def _pass(name: str, choices: dict[str, Any], joint: bool = False) -> Any:
    """Returns one of coremltools' compressions for these weights only. `joint` applies it to weights that are
    compressed already."""
    import coremltools.optimize.coreml as cto
    from coremltools.converters.mil.mil.passes.graph_pass import PassOption
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    graph_pass = PASS_REGISTRY[f"compression::{name}"]
    config = cto.OptimizationConfig(global_config=None, op_name_configs=choices)
    graph_pass.set_options([PassOption("config", config), PassOption("joint_compression", joint)])
    return graph_pass


def _integers(grid: Grid) -> Any:
    """Returns the setting for symmetric integers with one scale per output channel, or per block of its input
    channels."""
    from coremltools.optimize.coreml import OpLinearQuantizerConfig

    blocks: dict[str, Any] = {"granularity": "per_channel"}
    if grid.block is not None:
        blocks = {"granularity": "per_block", "block_size": grid.block}
    return OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype=f"int{grid.bits}", weight_threshold=THRESHOLD, **blocks
    )


def _table(grid: Grid) -> Any:
    """Returns the setting for one table per weight, or one per group of output channels."""
    from coremltools.optimize.coreml import OpPalettizerConfig

    def table(values: Any) -> Any:
        return palette(values, grid.bits, skip_zeros=grid.pruned > 0)

    groups = {} if grid.group is None else {"granularity": "per_grouped_channel", "group_size": grid.group}
    return OpPalettizerConfig(mode="custom", lut_function=table, weight_threshold=THRESHOLD, **groups)


Ranges = dict[str, dict[str, float]]
# A value that never leaves zero still needs a scale that float16 can hold.
SMALLEST = 2.0**-10


def quantize_activations(model: Any, inputs: npt.NDArray[np.generic]) -> Any:
    """Surrounds convolutions, linear layers, pools and additions of a converted model with int8 rounding.

    Args:
        model: converted in float16 (coremltools' MLModel, not loaded) for iOS17 or later.
        inputs: inputs of the tower: see `measure_ranges`.

    Returns:
        A new MLModel with the weights of `model`.
    """
    import coremltools.optimize.coreml as cto

    with temporary_folder() as folder:
        path = folder / "float.mlpackage"
        model.save(str(path))
        program = load(path)
        ranges = measure_ranges(program, inputs)
        # coremltools 9.0 tries to quantize additions of integers too, such as those of token ids from iOS 17 on.
        integers = [op.name for op in program.operations if not any("float" in out.dtype for out in op.outputs)]
    # Asymmetric: after GELU and ReLU half of a symmetric range is never used.
    choice = cto.OpLinearQuantizerConfig(mode="linear", dtype="int8")
    config = cto.OptimizationConfig(global_config=choice, op_name_configs=dict.fromkeys(integers))
    with measured(ranges):
        return cto.linear_quantize_activations(model, config, [])


def measure_ranges(program: Program, inputs: npt.NDArray[np.generic]) -> Ranges:
    """Returns {"rmin", "rmax"} of each floating intermediate value: its range over all inputs and 0, the rarest cut
    off.

    Args:
        program: as written before anything is quantized; evaluated in float32.
        inputs: pixels [N, 3, S, S] in [0, 1], or ids [N, L].
    """

    def computed() -> Iterator[dict[str, npt.NDArray[np.floating]]]:
        for feed in feeds(program, inputs):
            values = {name: value for step in program.trace(feed) for name, value in step.values.items()}
            yield {name: value for name, value in values.items() if np.issubdtype(value.dtype, np.floating)}

    ranges = ranges_of(computed)
    return {name: {"rmin": each.low, "rmax": max(each.high, SMALLEST)} for name, each in ranges.items()}
