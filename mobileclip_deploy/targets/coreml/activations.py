"""Activations rounded to int8: ranges measured by our own evaluator, quantize and dequantize written by coremltools."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.files.leftovers import temporary_folder
from mobileclip_deploy.targets.coreml.runner import feeds
from mobileclip_deploy.targets.foreign.coremltools import measured
from mobileclip_deploy.targets.ranges import ranges_of

if TYPE_CHECKING:
    from mobileclip_deploy.mil import Program

__all__ = ["measure_ranges", "quantize_activations"]

Ranges = dict[str, dict[str, float]]
# A value that never leaves zero still needs a scale that float16 can hold.
SMALLEST = 2.0**-10


def quantize_activations(model: Any, inputs: npt.NDArray[np.generic]) -> Any:
    """Surround convolutions, linear layers, pools and additions of a converted model with int8 rounding.

    Args:
        model: converted in float16 (coremltools' MLModel, not loaded) for iOS17 or later.
        inputs: of the tower, on which the ranges are measured: pixels [N, 3, S, S] in [0, 1], or ids [N, L].

    Returns:
        A new MLModel, whose weights are those of `model`.
    """
    import coremltools.optimize.coreml as cto

    with _written(model) as program:
        ranges = measure_ranges(program, inputs)
        # coremltools 9.0 tries to quantize additions of integers too, such as those of token ids from iOS 17 on.
        integers = [op.name for op in program.operations if not any("float" in out.dtype for out in op.outputs)]
    # Asymmetric: after GELU and ReLU half of a symmetric range is never used.
    choice = cto.OpLinearQuantizerConfig(mode="linear", dtype="int8")
    config = cto.OptimizationConfig(global_config=choice, op_name_configs=dict.fromkeys(integers))
    with measured(ranges):
        return cto.linear_quantize_activations(model, config, [])


def measure_ranges(program: Program, inputs: npt.NDArray[np.generic]) -> Ranges:
    """Name of each floating intermediate -> {"rmin", "rmax"}: its range over all inputs and 0, the rarest cut off.

    Args:
        program: as written before anything is quantized; evaluated in float32.
        inputs: pixels [N, 3, S, S] in [0, 1], or ids [N, L].
    """

    def computed() -> Iterator[dict[str, npt.NDArray[np.floating]]]:
        for one in feeds(program, inputs):
            values = {name: value for step in program.trace(one) for name, value in step.values.items()}
            yield {name: value for name, value in values.items() if np.issubdtype(value.dtype, np.floating)}

    found = ranges_of(computed)
    return {name: {"rmin": one.low, "rmax": max(one.high, SMALLEST)} for name, one in found.items()}


@contextlib.contextmanager
def _written(model: Any) -> Iterator[Program]:
    """A converted model as our evaluator reads it."""
    from mobileclip_deploy.mil import load

    with temporary_folder() as folder:
        path = folder / "float.mlpackage"
        model.save(str(path))
        yield load(path)
