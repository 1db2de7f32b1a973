"""Quantization of a float32 graph to a precision: weights as integers, products and convolutions in int8.

If activations are rounded too, the image tower runs convolutions and products in int8, with ranges measured at export.
The text tower runs products whose inputs are measured at run time, or at export if required. The number of nodes left
in float is the smallest that the measured embeddings allow.

Convolutions are never dynamically quantized: they become ConvInteger, which took another project's image tower from 112
to 1,393 ms.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.network.model.precision import precision_of
from mobileclip_deploy.parity import compare
from mobileclip_deploy.targets.grids.encode import int8_channels
from mobileclip_deploy.targets.onnx.editing import OnnxEditor, array, op, taken, write_model
from mobileclip_deploy.targets.onnx.rules import RULES
from mobileclip_deploy.targets.onnx.runner import open_session
from mobileclip_deploy.targets.onnx.weights import (
    OnnxWeight,
    Quantized,
    as_products,
    dynamic_product,
    four_bits,
    quantized_table,
    restore_int8,
    weights,
)
from mobileclip_deploy.targets.ranges import Range, ranges_of
from mobileclip_deploy.targets.rules import StorageRules, stored
from mobileclip_deploy.targets.storage import Storage, by_numbers, require_all
from mobileclip_deploy.targets.values import TowerJob


@dataclass(frozen=True)
class Quantizing:
    """A target's settings of quantization.

    Attributes:
        rules: how each weight is stored; a product whose weight stays float is not quantized.
        beforehand: True if text towers' ranges of activations are measured at export, not at run time.
        finish: changes the quantized graph in place; the results must stay the same.
    """

    rules: StorageRules = RULES
    beforehand: bool = False
    finish: Callable[[ir.Model], None] | None = None


def quantize(model: ir.Model, job: TowerJob, how: Quantizing) -> ir.Model:
    """Quantizes a tower's graph to a precision whose weights are integers.

    Args:
        model: in float32, which is changed.
        job: with calibration inputs if ranges of activations are measured.

    Returns:
        The model to write.

    Raises:
        ExportError: ranges of activations must be measured, and the job has no calibration inputs.
    """
    rounded = precision_of(job.precision).activations is not None
    static = rounded and (job.tower == "image" or how.beforehand)
    if static and job.calibration is None:
        raise ExportError(f"precision {job.precision} needs calibration inputs")
    grids = stored(how.rules, job.tower, job.module, job.precision, job.four_bit)
    names = by_numbers(job.module, grids)
    require_all(grids, [weight.layer for weight in weights(model.graph, names)])
    if static:
        model = _static(model, job, names)
    _store(OnnxEditor(model), job, names, grids, static)
    if how.finish is not None:
        how.finish(model)
    return model


def _static(model: ir.Model, job: TowerJob, names: Mapping[str, str]) -> ir.Model:
    inputs, precision = job.calibration, precision_of(job.precision)
    assert inputs is not None
    assert precision.activations is not None
    around = {result: surroundings(weight) for result, weight in _products(model, names).items()}
    rounded = [name for pair in around.values() for name in pair]
    ranges = ranges_of(lambda: computed_values(model, sorted({*rounded}), inputs), 2**precision.activations - 1)
    expected = answers(model, inputs)

    def built(left: frozenset[str]) -> ir.Model:
        copy = model.clone()  # copies the nodes; the weights are shared
        products = _products(copy, names)
        quantize_static(copy, [weight for result, weight in products.items() if result not in left], ranges)
        return copy

    def measure(left: frozenset[str]) -> float:
        return compare(expected, answers(built(left), inputs)).cosine

    sensitivity = [[ranges[name] for name in pair] for pair in around.values()]
    # The worst cosine may lose half of the gate's allowance, a margin for inputs that are not among these.
    return built(choose(list(around), sensitivity, measure, 1 - (1 - precision.gate) / 2))


def answers(model: ir.Model, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Returns a model's embeddings [N, D], computed one input at a time."""
    result = str(model.graph.outputs[0].name)
    return np.concatenate([values[result] for values in computed_values(model, [result], inputs)])


def computed_values(
    model: ir.Model, names: Sequence[str], inputs: npt.NDArray[np.generic]
) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """Yields inputs and intermediate values of a float32 model for each input of a tower.

    It uses one thread, since sums in another order would give other bytes.

    Args:
        inputs: pixels [N, 3, S, S] in [0, 1], or ids [N, L].
    """
    graph, values = model.graph, ir.convenience.create_value_mapping(model.graph)
    computed = [name for name in names if not values[name].is_graph_input()]
    own_outputs = len(graph.outputs)
    graph.outputs.extend([values[name] for name in computed if not values[name].is_graph_output()])
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        write_model(model, path)
        graph.outputs[own_outputs:] = []  # `del` would leave the values marked as outputs
        session = open_session(path, threads=1)
    (source,) = session.get_inputs()
    kind = graph.inputs[0].dtype
    assert kind is not None
    for row in inputs.astype(kind.numpy()):  # ids are int32 if a target takes no others
        results = session.run(computed, {source.name: row[None]}) if computed else []
        yield dict(zip(computed, results, strict=True)) | ({source.name: row[None]} if source.name in names else {})


# Shares of nodes left in float, tried in this order; with more than half it would not be an int8 artifact.
SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)


def choose(
    nodes: Sequence[str],
    around: Sequence[Sequence[Range]],
    measure: Callable[[frozenset[str]], float],
    wanted: float,
) -> frozenset[str]:
    """Returns the nodes to leave in float: none if that reaches `wanted`, otherwise the most sensitive ones, share by
    share.

    Args:
        nodes: all nodes that could run in int8.
        around: ranges of the values before and after each node; the one with the lowest SNR is the node's sensitivity.
        measure: returns the worst cosine of the embeddings on the calibration inputs, with these nodes in float.
        wanted: the cosine to reach.

    Returns:
        The first share that reaches it. If none does, the share with the best cosine, on which the gate decides.
    """
    worst = {node: min(each.snr_db for each in ranges) for node, ranges in zip(nodes, around, strict=True)}
    order = sorted(nodes, key=lambda node: (worst[node], node))
    tried: list[tuple[float, frozenset[str]]] = []
    for share in SHARES:
        left = frozenset(order[: math.ceil(share * len(order))])
        tried.append((measure(left), left))
        if tried[-1][0] >= wanted:
            return left
    return max(tried, key=lambda item: -1.0 if math.isnan(item[0]) else item[0])[1]


def _products(model: ir.Model, names: Mapping[str, str]) -> dict[str, OnnxWeight]:
    """Returns the weights of convolutions and matrix products that run in int8, by the name of their node's result.

    Grouped convolutions run in float: ONNX Runtime's int8 kernel handles each group separately, which takes four times
    as long as in float. S0's image tower takes 0.87 of its float32 time with them in int8, and 0.54 without.
    """
    by_node = [(weight, weight.node) for weight in weights(model.graph, names)]
    products = [(weight, node) for weight, node in by_node if node.op_type != "Gather"]
    return {str(node.outputs[0].name): weight for weight, node in products if node.attributes.get_int("group", 1) == 1}


def _store(editor: OnnxEditor, job: TowerJob, names: Mapping[str, str], grids: Storage, static: bool) -> None:
    """Stores every weight that is still float32 on its grid. Products become dynamic if their inputs are measured at
    run time."""
    precision = precision_of(job.precision)
    measured = precision.activations is not None and not static
    if measured or (precision.bits == 4 and job.tower == "text"):
        as_products(editor)
    quantized: Quantized = {}
    for weight in list(weights(editor.graph, names)):
        grid = grids[weight.layer]
        if measured and weight.node.op_type in ("MatMul", "Gemm"):
            dynamic_product(editor, weight, quantized)
        elif static and weight.node.op_type == "Gather":
            quantized_table(editor, weight)
        elif grid.block is not None:
            four_bits(editor, weight, grid.block)
        else:
            restore_int8(editor, weight)
    editor.drop_unused()


SIXTEEN_BITS = 21  # the first opset in which QuantizeLinear has uint16; no other operator used here changed


def surroundings(weight: OnnxWeight) -> tuple[str, str]:
    """Returns the values before and after a node that are rounded when it runs in int8: its input and its output. If
    only the addition of a bias takes the output, its sum is rounded instead."""
    source, result = taken(weight.node, 0), weight.node.outputs[0]
    if (added := _bias(weight)) is not None:
        result = added.outputs[0]
    return str(source.name), str(result.name)


def quantize_static(model: ir.Model, chosen: Collection[OnnxWeight], ranges: Mapping[str, Range]) -> None:
    """Makes these nodes run in int8: weights with one scale per output channel, inputs and outputs with one per tensor.

    A value is rounded once for all its int8 consumers. A convolution's consumers in float take the rounded result too.
    ONNX Runtime runs the int8 kernel only if the exact result has no other consumer than the rounding.

    Args:
        ranges: ranges of the values that `surroundings` names.
    """
    editor = OnnxEditor(model)
    if any(value_range.zero_point.dtype == np.uint16 for value_range in ranges.values()):
        model.graph.opset_imports[""] = max(model.graph.opset_imports[""], SIXTEEN_BITS)
    by_node = {weight.node: weight for weight in chosen}
    results = {surroundings(weight)[1] for weight in chosen}
    rounded: dict[str, ir.Value] = {}
    for node in list(editor.graph):
        if (weight := by_node.get(node)) is not None:
            source, name = taken(node, 0), surroundings(weight)[0]
            if name not in results and name not in rounded:
                rounded[name] = editor.value(f"{name}_rounded")
                editor.graph.insert_before(node, _rounding(editor, source, rounded[name], name, ranges[name]))
            node.replace_input_with(0, rounded.get(name, source))
            editor.graph.insert_before(node, _int8(editor, weight, ranges[name]))
        for exact in node.outputs:
            if (name := str(exact.name)) in results:
                inexact = editor.take_users(exact, f"{name}_exact")
                editor.graph.insert_after(node, _rounding(editor, exact, inexact, name, ranges[name]))
    editor.drop_unused()


def _rounding(editor: OnnxEditor, exact: ir.Value, rounded: ir.Value, name: str, known: Range) -> list[ir.Node]:
    """Returns the nodes that round an exact value to integers and dequantize it; their names derive from `name`."""
    scale = editor.constant(f"{name}_scale", np.asarray(known.scale))
    zero = editor.constant(f"{name}_zero", np.asarray(known.zero_point))
    integers = editor.value(f"{name}_{known.zero_point.dtype}")
    return [
        op("QuantizeLinear", [exact, scale, zero], [integers]),
        op("DequantizeLinear", [integers, scale, zero], [rounded]),
    ]


def _bias(weight: OnnxWeight) -> ir.Node | None:
    """Returns the addition of a constant that is the only consumer of a product. None if there is none."""
    result = weight.node.outputs[0]
    users = result.consumers()
    if weight.node.op_type != "MatMul" or len(users) != 1 or users[0].op_type != "Add":
        return None
    others = [value for value in users[0].inputs if value is not result]
    return users[0] if others and array(others[0]) is not None else None


def _int8(editor: OnnxEditor, weight: OnnxWeight, source: Range) -> list[ir.Node]:
    """Returns the nodes that dequantize a weight and its bias, and connects the weight's node to them."""
    node, name = weight.node, weight.name
    integers, scales = int8_channels(weight.values, weight.channels)
    stored = editor.instead(weight.value, f"{name}_int8", integers)
    scale = editor.constant(f"{name}_scale", scales.reshape(-1))
    zero = editor.constant(f"{name}_zero", np.zeros(scales.size, np.int8))
    restored = editor.value(f"{name}_float")
    node.replace_input_with(1, restored)
    nodes = [op("DequantizeLinear", [stored, scale, zero], [restored], axis=weight.channels)]
    if len(node.inputs) > 2 and node.op_type in ("Conv", "Gemm"):
        bias = taken(node, 2)
        values = array(bias)
        assert values is not None
        steps = scales.reshape(-1) * source.scale  # [outputs]: unit of the sums of int8 products
        sums = editor.constant(f"{bias.name}_int32", np.rint(values / steps).astype(np.int32))
        step = editor.constant(f"{bias.name}_scale", steps.astype(np.float32))
        none = editor.constant(f"{bias.name}_zero", np.zeros(values.size, np.int32))
        floats = editor.value(f"{bias.name}_float")
        node.replace_input_with(2, floats)
        nodes.append(op("DequantizeLinear", [sums, step, none], [floats], axis=0))
    return nodes
