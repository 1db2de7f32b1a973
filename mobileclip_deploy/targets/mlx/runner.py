"""MLX on this machine: it runs the file on its own device if present, else on the CPU. First it replays the steps one
by one, and the type and shape of each result are checked."""

import importlib.metadata
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.errors import Malformed, first_sentence, reraising, wrapping_runtime_errors
from mobileclip_deploy.targets.mlx.function_file import MlxFunction, MlxOperation, Value, rewritten
from mobileclip_deploy.targets.values import require_shape

ALONE = threading.Lock()
# MLX runs an imported function on the first stream that anybody made for the device, and refuses a stream of another
# thread. So the first ones here belong to no thread; only one caller at a time may use them.
STREAMS = {device: mx.new_thread_unsafe_stream(device) for device in (mx.cpu, mx.gpu) if mx.is_available(device)}

BITWISE = (mx.bitwise_and, mx.bitwise_or, mx.bitwise_xor, mx.left_shift, mx.right_shift)
REDUCED = (mx.all, mx.any, mx.sum, mx.prod, mx.min, mx.max)


class MlxRunner:
    """A function, imported as an app imports it; one inference per input.

    Args:
        wide: instead, step by step and in float32 throughout.

    Raises:
        InvalidInput: the result of a step differs from the file's declaration.
        RuntimeFailed: MLX refuses the file.
    """

    def __init__(self, path: Path, function: MlxFunction, wide: bool = False) -> None:
        self._function, self._wide = function, wide
        (self._input,) = function.inputs
        available = function.device == "cpu" or mx.is_available(mx.gpu)
        self._device = mx.gpu if available and function.device == "gpu" and not wide else mx.cpu
        unit = function.device.upper() if available else "CPU instead of the GPU"
        self.engine = f"MLX {importlib.metadata.version('mlx')} ({unit})"
        with reraising(f"{path}", Malformed), mx.stream(STREAMS[mx.cpu]):  # nothing is computed yet
            replayed(function, mx.zeros(self._input.shape, getattr(mx, self._input.dtype)))
        self._imported: Any = None
        if not wide:
            self._import(path, available)

    def _import(self, path: Path, here: bool) -> None:
        """Imports the file in MLX, or an adapted copy for this version or this machine."""
        with wrapping_runtime_errors(f"{self.engine} cannot load {path}"), temporary_folder() as folder:
            copy, device = folder / path.name, self._function.device if here else "cpu"
            if not here or self._function.metadata is None:
                metadata = self._function.metadata or ""
                copy.write_bytes(rewritten(path.read_bytes(), self._function, device, metadata))
            self._imported = mx.import_function(str(copy if copy.exists() else path))
            # Elements are read when they are first needed, and only on this thread.
            self._ask(np.zeros(self._input.shape, self._input.dtype))

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        require_shape(inputs, self._input.shape)
        with wrapping_runtime_errors(f"{self.engine} failed"):
            return np.concatenate([self._ask(row[None].astype(self._input.dtype)) for row in inputs])

    def _ask(self, row: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        with ALONE, mx.stream(STREAMS[self._device]):
            value = mx.array(row)
            result = replayed(self._function, value, wide=True) if self._wide else self._imported(value)[0]
            return np.array(result)


def _convolved(value: mx.array, weight: mx.array, *settings: Any) -> mx.array:
    strides, low, high, dilation, spread, groups, flip = settings
    return mx.conv_general(value, weight, strides, (list(low), list(high)), dilation, spread, groups, flip)


def _looked_up(table: mx.array, ids: mx.array, axes: tuple[int, ...], sizes: tuple[int, ...]) -> mx.array:
    if axes != (0,) or sizes != (1, *table.shape[1:]):
        raise Malformed("it looks up something other than rows")
    return mx.take(table, ids, axis=0).reshape(*ids.shape, *sizes)


def _cut(value: mx.array, *bounds: tuple[int, ...]) -> mx.array:
    return value[tuple(slice(*each) for each in zip(*bounds, strict=True))]


def _multiplied(value: mx.array, *more: Any) -> mx.array:
    weight, scales, zeros, group, bits, mode, transpose = more
    if mode:
        raise Malformed("its integers do not use MLX's affine mode")
    return mx.quantized_matmul(value, weight, scales, zeros, transpose, group, bits)


_OWN = "abs add divide erf exp matmul maximum minimum multiply negative power sigmoid square subtract tanh"
_OWN += " reshape transpose flatten unflatten squeeze"
STEPS: dict[str, Callable[..., mx.array]] = {name.capitalize(): getattr(mx, name) for name in _OWN.split()}
STEPS |= {
    "Broadcast": mx.broadcast_to,
    "ExpandDims": mx.expand_dims,
    "Convolution": _convolved,
    "Gather": _looked_up,
    "Slice": _cut,
    "QuantizedMatmul": _multiplied,
    "AsType": lambda value, dtype: value.astype(dtype),
    "BitwiseBinary": lambda left, right, which: BITWISE[which](left, right),
    "Concatenate": lambda *given: mx.concatenate([*given[:-1]], given[-1]),
    "Equal": lambda left, right, nan: mx.equal(left, right),
    "Reduce": lambda value, which, axes: REDUCED[which](value, axes, keepdims=True),
    "Softmax": lambda value, precise: mx.softmax(value, -1, precise=precise),
    "Sqrt": lambda value, inverse: mx.rsqrt(value) if inverse else mx.sqrt(value),
}


def replayed(function: MlxFunction, given: mx.array, wide: bool = False) -> mx.array:
    """Returns the function's one result for its one input, not yet computed.

    Args:
        wide: every float16 becomes a float32, but elements keep the values in the file.

    Raises:
        Malformed: MLX does not support a step, or its result differs from the file's declaration: a runtime trusts the
            file.
    """
    values = [given]
    for step in function.steps:
        if isinstance(step, Value):
            number = mx.array(step.numbers)
            values.append(number.astype(mx.float32) if wide and number.dtype == mx.float16 else number)
        else:
            values.append(_done(step, [values[number] for number in step.inputs], wide))
    return values[function.results[0]]


def _done(step: MlxOperation, inputs: list[mx.array], wide: bool) -> mx.array:
    settings = [
        getattr(mx, "float32" if wide and setting == "float16" else setting) if isinstance(setting, str) else setting
        for setting in step.settings
    ]
    try:
        result = STEPS[step.name](*inputs, *settings)
    except (ValueError, TypeError, IndexError) as error:
        raise Malformed(f"MLX cannot run its {step.name}: {first_sentence(error)}") from error
    dtype = str(result.dtype).removeprefix("mlx.core.").removesuffix("_")
    declared = "float32" if wide and step.result.dtype == "float16" else step.result.dtype
    if (dtype, result.shape) != (declared, step.result.shape):
        raise Malformed(f"the result of {step.name} is {dtype} {list(result.shape)}, unlike its declaration")
    return result
