"""A float32 graph made smaller as a recipe says: weights as integers, products and convolutions in int8.

Never dynamically quantized convolutions: they become ConvInteger, which took another project's image tower from 112 to
1,393 ms.
"""

from __future__ import annotations

from typing import Any

from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.model.provenance import weight_sha256
from mobileclip_deploy.parity import compare
from mobileclip_deploy.targets.base import TowerJob
from mobileclip_deploy.targets.onnx.calibrating import answers, measure_ranges
from mobileclip_deploy.targets.onnx.dynamic import DynamicProducts
from mobileclip_deploy.targets.onnx.editing import Graph
from mobileclip_deploy.targets.onnx.products import as_products
from mobileclip_deploy.targets.onnx.recipes import Recipe, recipe_of
from mobileclip_deploy.targets.onnx.sensitivity import choose
from mobileclip_deploy.targets.onnx.static import quantize_static, surroundings
from mobileclip_deploy.targets.onnx.weights import Weight, four_bits, restore_int8, rows_of, weights

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
    if job.tower in recipe.static:
        model = _static(model, job)
    _stored(Graph(model), recipe, job)
    return model


def _static(model: Any, job: TowerJob) -> Any:
    inputs = job.calibration
    if inputs is None:
        raise ExportError(f"precision {job.precision} needs calibration inputs")
    graph = Graph(model)
    found = {weight.node.output[0]: weight for weight in weights(graph) if weight.node.op_type != "Gather"}
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


def _stored(graph: Graph, recipe: Recipe, job: TowerJob) -> None:
    """Every weight that is still float32, as the recipe stores it."""
    products = recipe.products_of(job.tower)
    if products != "float" and job.tower == "text":
        as_products(graph)
    found: dict[str, Weight] = {weight.node.output[0]: weight for weight in weights(graph)}
    dynamic = DynamicProducts(graph)
    chosen = job.four_bit if job.precision == "mixed" else None

    def change(node: Any) -> list[Any] | None:
        weight = found.get(node.output[0])
        if weight is None:
            return None
        product = node.op_type in ("MatMul", "Gemm")
        if product and products == "dynamic":
            return dynamic.rewrite(weight)
        # The projection, a product whose result is the embedding, keeps 8 bits: a thousandth of the bytes, and 3 dB of
        # nano's 21 in the text tower.
        last = node.output[0] == graph.model.graph.output[0].name
        can = products == "four bits" and node.op_type in ("MatMul", "Gather") and not last
        if can and (chosen is None or weight_sha256(rows_of(graph, weight)) in chosen):
            return four_bits(graph, weight)
        return restore_int8(graph, weight)

    graph.rewrite(change)
