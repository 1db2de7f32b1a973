"""What a float32 graph computes on real inputs: the ranges of its values, and its answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mobileclip_deploy.files.leftovers import temporary_folder
from mobileclip_deploy.targets.onnx.runner import open_session
from mobileclip_deploy.targets.onnx.writing import write_model
from mobileclip_deploy.targets.ranges import PERCENTILE, Range, ranges_of

__all__ = ["answers", "measure_ranges"]


def measure_ranges(
    model: ir.Model, names: Iterable[str], inputs: npt.NDArray[np.generic], percentile: float = PERCENTILE
) -> dict[str, Range]:
    """The ranges of some of a float32 model's values, over all inputs: two passes, one input at a time.

    Args:
        names: of the model's inputs and intermediate values.
        inputs: pixels [N, 3, S, S] in [0, 1], or ids [N, 77].
        percentile: the share of values that lie within the range; half of the rest is cut off at either end.
    """
    wanted = sorted(set(names))
    return ranges_of(lambda: _computed(model, wanted, inputs), percentile)


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
    for row in inputs:
        found = session.run(computed, {source.name: row[None]}) if computed else []
        yield dict(zip(computed, found, strict=True)) | ({source.name: row[None]} if source.name in names else {})
