"""Ranges of activations: what a float32 graph computes on real inputs, without the rarest values."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.targets.onnx.session import open_session
from mobileclip_deploy.targets.onnx.writing import write_model

__all__ = ["PERCENTILE", "Range", "answers", "measure_ranges"]

# Of all values of a tensor this share, in percent, lies within its range; the rest is cut off. The figures of nano with
# 99.9, 99.99, 99.999 and 100 stand in docs/onnx.md.
PERCENTILE = 99.99
BINS = 8192
STEPS = 255


@dataclass(frozen=True)
class Range:
    """From where to where a tensor's values go, 0 included, and what rounding them to 256 steps leaves: the ratio of
    signal to noise in dB, what is cut off counted as noise."""

    low: float
    high: float
    snr_db: float

    @property
    def scale(self) -> np.float32:
        """The step of uint8."""
        return np.float32(max(self.high - self.low, float(np.finfo(np.float16).tiny)) / STEPS)

    @property
    def zero_point(self) -> np.uint8:
        """The integer that stands for 0."""
        return np.uint8(np.clip(np.rint(-self.low / self.scale), 0, STEPS))


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
    ends: dict[str, tuple[float, float]] = dict.fromkeys(wanted, (0.0, 0.0))
    for values in _computed(model, wanted, inputs):
        for name, value in values.items():
            low, high = ends[name]
            ends[name] = min(low, float(value.min())), max(high, float(value.max()))
    counts = {name: np.zeros(BINS, np.int64) for name in wanted}
    for values in _computed(model, wanted, inputs):
        for name, value in values.items():
            if ends[name] != (0.0, 0.0):
                counts[name] += np.histogram(value, BINS, ends[name])[0]
    return {name: _range(counts[name], *ends[name], percentile) for name in wanted}


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


def _range(counts: npt.NDArray[np.int64], low: float, high: float, percentile: float) -> Range:
    total = int(counts.sum())
    if not total:
        return Range(0.0, 0.0, math.inf)
    edges = np.linspace(low, high, BINS + 1)
    rest = total * (1 - percentile / 100) / 2
    below = np.cumsum(counts)
    first = int(np.searchsorted(below, rest, side="right"))
    last = min(int(np.searchsorted(below, total - rest, side="left")), BINS - 1)
    low, high = min(0.0, float(edges[first])), max(0.0, float(edges[last + 1]))
    centres = (edges[1:] + edges[:-1]) / 2
    cut = centres - np.clip(centres, low, high)
    noise = float((counts * cut**2).sum()) / total + ((high - low) / STEPS) ** 2 / 12
    signal = float((counts * centres**2).sum()) / total
    return Range(low, high, 10 * math.log10(signal / noise))
