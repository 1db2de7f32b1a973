"""A float32 graph made smaller as a recipe says: weights as integers, products and convolutions in int8.

Never dynamically quantized convolutions: they become ConvInteger, which took another project's image tower from 112 to
1,393 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity import compare
from mobileclip_deploy.targets.base import TowerJob
from mobileclip_deploy.targets.onnx.calibrating import answers, measure_ranges
from mobileclip_deploy.targets.onnx.dynamic import DynamicProducts
from mobileclip_deploy.targets.onnx.editing import Graph
from mobileclip_deploy.targets.onnx.products import as_products
from mobileclip_deploy.targets.onnx.recipes import Products, recipe_of
from mobileclip_deploy.targets.onnx.sensitivity import choose
from mobileclip_deploy.targets.onnx.static import quantize_static, surroundings
from mobileclip_deploy.targets.onnx.storage import storage
from mobileclip_deploy.targets.onnx.weights import four_bits, restore_int8, weights
from mobileclip_deploy.targets.storage import Storage, by_numbers, require_all

__all__ = ["quantize"]


def quantize(model: Any, job: TowerJob) -> Any:
    """A tower's graph at its precision.

    Args:
        model: an `onnx.ModelProto` in float32, which is changed.
        job: with calibration inputs where its recipe is static.

    Returns:
        The model to be written.

    Raises:
        ExportError: the recipe is static and the job has no calibration inputs.
    """
    recipe = recipe_of(job.precision)
    if recipe.weights != "int8":
        return model
    grids = storage(job.tower, job.module, job.precision, job.four_bit)
    names = by_numbers(job.module, grids)
    require_all(grids, [weight.layer for weight in weights(Graph(model), names)])
    if job.tower in recipe.static:
        model = _static(model, job, names)
    _store(Graph(model), recipe.products_of(job.tower), job.tower, names, grids)
    return model


def _static(model: Any, job: TowerJob, names: Mapping[str, str]) -> Any:
    inputs = job.calibration
    if inputs is None:
        raise ExportError(f"precision {job.precision} needs calibration inputs")
    graph = Graph(model)
    found = {weight.node.output[0]: weight for weight in weights(graph, names) if weight.node.op_type != "Gather"}
    around = {name: surroundings(graph, weight) for name, weight in found.items()}
    ranges = measure_ranges(model, [name for pair in around.values() for name in pair], inputs)
    wanted = answers(model, inputs)

    def built(left: frozenset[str]) -> Any:
        copy = type(model)()
        copy.CopyFrom(model)
        quantize_static(Graph(copy), [weight for name, weight in found.items() if name not in left], ranges)
        return copy

    def measure(left: frozenset[str]) -> float:
        return compare(wanted, answers(built(left), inputs)).cosine

    sensitivity = [[ranges[name] for name in around[node]] for node in found]
    return built(choose(list(found), sensitivity, measure))


def _store(graph: Graph, products: Products, tower: TowerName, names: Mapping[str, str], grids: Storage) -> None:
    """Every weight that is still float32, on its grid; products with activations measured at run time where wanted."""
    if products != "float" and tower == "text":
        as_products(graph)
    found = {weight.node.output[0]: weight for weight in weights(graph, names)}
    dynamic = DynamicProducts(graph)

    def change(node: Any) -> list[Any] | None:
        weight = found.get(node.output[0])
        if weight is None:
            return None
        if products == "dynamic" and node.op_type in ("MatMul", "Gemm"):
            return dynamic.rewrite(weight)
        grid = grids[weight.layer]
        return restore_int8(graph, weight) if grid.block is None else four_bits(graph, weight, grid.block)

    graph.rewrite(change)
