"""What a float32 graph computes on real inputs: the ranges of its values, and its answers; and which of its nodes stay
in float where activations are int8: as few as the measured embeddings need.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mobileclip_deploy.files.leftovers import temporary_folder
from mobileclip_deploy.model.precision import Precision
from mobileclip_deploy.targets.onnx.runner import open_session
from mobileclip_deploy.targets.onnx.writing import write_model
from mobileclip_deploy.targets.ranges import Range, ranges_of


def measure_ranges(
    model: ir.Model, names: Iterable[str], inputs: npt.NDArray[np.generic], steps: int
) -> dict[str, Range]:
    """The ranges of some of a float32 model's values, over all inputs: two passes, one input at a time.

    Args:
        names: of the model's inputs and intermediate values.
        inputs: pixels [N, 3, S, S] in [0, 1], or ids [N, L].
        steps: the highest integer that a value is rounded to.
    """
    wanted = sorted(set(names))
    return ranges_of(lambda: _computed(model, wanted, inputs), steps)


def answers(model: ir.Model, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """A model's embeddings [N, D], one input at a time."""
    result = str(model.graph.outputs[0].name)
    return np.concatenate([values[result] for values in _computed(model, [result], inputs)])


def _computed(
    model: ir.Model, names: list[str], inputs: npt.NDArray[np.generic]
) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """These values of a model for each input. One thread: sums in another order would give other bytes."""
    graph, values = model.graph, ir.convenience.create_value_mapping(model.graph)
    computed = [name for name in names if not values[name].is_graph_input()]
    own = len(graph.outputs)
    graph.outputs.extend([values[name] for name in computed if not values[name].is_graph_output()])
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        write_model(model, path)
        graph.outputs[own:] = []  # `del` would leave the values marked as outputs
        session = open_session(path, threads=1)
    (source,) = session.get_inputs()
    kind = graph.inputs[0].dtype
    assert kind is not None
    for row in inputs.astype(kind.numpy()):  # ids are int32 where a target takes no others
        found = session.run(computed, {source.name: row[None]}) if computed else []
        yield dict(zip(computed, found, strict=True)) | ({source.name: row[None]} if source.name in names else {})


# Shares of the nodes that are tried in float, in this order; more than half would not be an int8 artifact.
SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)


def wanted_of(precision: Precision) -> float:
    """The worst cosine on the calibration inputs: half of what the gate allows, for inputs that are not among them."""
    return 1 - (1 - precision.gate) / 2


def choose(
    nodes: Sequence[str],
    around: Sequence[Sequence[Range]],
    measure: Callable[[frozenset[str]], float],
    wanted: float,
) -> frozenset[str]:
    """The nodes to be left in float: none where that holds `wanted`, else the most sensitive ones, share by share.

    Args:
        nodes: all that could run in int8.
        around: for each the ranges of the values before and behind it; the one that rounding hurts most tells how
            sensitive the node is.
        measure: nodes left in float -> worst cosine of the embeddings on the calibration inputs.
        wanted: of these.

    Returns:
        The first share that holds; where none does, the one with the best cosine, on which the gate decides.
    """
    worst = {node: min(found.snr_db for found in ranges) for node, ranges in zip(nodes, around, strict=True)}
    order = sorted(nodes, key=lambda node: (worst[node], node))
    tried: list[tuple[float, frozenset[str]]] = []
    for share in SHARES:
        left = frozenset(order[: math.ceil(share * len(order))])
        tried.append((measure(left), left))
        if tried[-1][0] >= wanted:
            return left
    return max(tried, key=lambda item: -1.0 if math.isnan(item[0]) else item[0])[1]
