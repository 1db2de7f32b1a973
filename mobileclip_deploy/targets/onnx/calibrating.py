"""What a float32 graph computes on real inputs: the ranges of its values, and its answers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.onnx.session import open_session
from mobileclip_deploy.targets.onnx.writing import write_model
from mobileclip_deploy.targets.ranges import PERCENTILE, Range, ranges_of

__all__ = ["answers", "measure_ranges"]


def measure_ranges(
    model: Any, names: Iterable[str], inputs: npt.NDArray[np.generic], percentile: float = PERCENTILE
) -> dict[str, Range]:
    """The ranges of some of a float32 model's values, over all inputs: two passes, one input at a time.

    Args:
        model: an `onnx.ModelProto`.
        names: of its inputs and intermediate values.
        inputs: pixels [N, 3, S, S] in [0, 1], or ids [N, 77].
        percentile: the share of values that lie within the range; half of the rest is cut off at either end.
    """
    wanted = sorted(set(names))
    return ranges_of(lambda: _computed(model, wanted, inputs), percentile)


def answers(model: Any, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """A model's embeddings [N, D], one input at a time."""
    result = model.graph.output[0].name
    return np.concatenate([values[result] for values in _computed(model, [result], inputs)])


def _computed(
    model: Any, names: list[str], inputs: npt.NDArray[np.generic]
) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    """These values of a model for each input. One thread: sums in another order would give other bytes."""
    from onnx import TensorProto, helper

    given = {source.name for source in model.graph.input}
    computed = [name for name in names if name not in given]
    own = len(model.graph.output)
    known = given | {output.name for output in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    with tempfile.TemporaryDirectory(prefix="mobileclip-calibration-") as folder:
        path = Path(folder) / "model.onnx"
        write_model(model, path)
        del model.graph.output[own:]
        session = open_session(path, threads=1)
    (source,) = session.get_inputs()
    for row in inputs:
        values = session.run(computed, {source.name: row[None]}) if computed else []
        yield dict(zip(computed, values, strict=True)) | ({source.name: row[None]} if source.name in names else {})
