"""Rules on what is computed there: ranges of values, and what is slower than it need be."""

from __future__ import annotations

import numpy as np

from mobileclip_deploy.mil.lint import sources
from mobileclip_deploy.mil.lint.rule import DeviceOperation, Rule

__all__ = ["NUMERICS"]

_MATMUL_LIMIT = 32752.0
_FLOAT16_LIMIT = 65504.0
_NARROW = 8
_LARGE = 2**15


def _saturation(on_device: DeviceOperation) -> str | None:
    largest = on_device.largest()
    if on_device.type not in ("matmul", "scaled_dot_product_attention", "einsum", "linear") or largest is None:
        return None
    return f"reaches {largest:,.0f}" if largest > _MATMUL_LIMIT else None


def _overflow(on_device: DeviceOperation) -> str | None:
    largest = on_device.largest()
    if largest is None or on_device.result.dtype != "float16":
        return None
    return f"reaches {largest:.3g}" if not largest <= _FLOAT16_LIMIT else None


def _infinite(on_device: DeviceOperation) -> str | None:
    for name, bound in on_device.operation.inputs.items():
        if len(bound) == 1 and bound[0].constant and bound[0].dtype in ("float16", "float32"):
            value = on_device.operation.constant(name)
            if isinstance(value, np.ndarray) and value.size and not np.isfinite(value).all():
                return f"{name} holds {'NaN' if np.isnan(value).any() else 'infinity'}"
    return None


def _linear(on_device: DeviceOperation) -> str | None:
    return f"on {list(on_device.sources[0].shape)}" if on_device.type == "linear" and on_device.sources else None


def _batch_norm(on_device: DeviceOperation) -> str | None:
    return "not folded" if on_device.type == "batch_norm" else None


def _narrow(on_device: DeviceOperation) -> str | None:
    shape = on_device.result.shape
    known = [size for size in shape if size is not None]
    if len(shape) < 3 or shape[-1] is None or shape[-1] > _NARROW or int(np.prod(known)) < _LARGE:
        return None
    return f"{list(shape)}"


def _activations(on_device: DeviceOperation) -> str | None:
    wanted = on_device.type in ("quantize", "dequantize") and bool(on_device.sources)
    return f"on {on_device.device.name}" if wanted and not on_device.device.int8_activations else None


NUMERICS: tuple[Rule[DeviceOperation], ...] = (
    Rule(
        "saturation",
        "risk",
        "Results of matrix products above 32,752 become infinite",
        (sources.SATURATION,),
        _saturation,
    ),
    Rule("overflow", "risk", "float16 ends at 65,504", (sources.NUMERICS,), _overflow),
    Rule("not-finite", "risk", "Infinite constants turn into NaN or clamp", (sources.NUMERICS,), _infinite),
    Rule(
        "linear",
        "advice",
        "A 1x1 convolution on [B, C, 1, S] suits it better than linear on [B, S, C]",
        (sources.TRANSFORMERS,),
        _linear,
    ),
    Rule(
        "batch-norm",
        "advice",
        "BatchNorm runs there, but folding it into its neighbour costs nothing",
        (sources.CATALOG,),
        _batch_norm,
    ),
    Rule(
        "narrow-last-axis",
        "advice",
        "The last axis is padded to 64 bytes: a narrow one multiplies memory",
        (sources.TRANSFORMERS,),
        _narrow,
    ),
    Rule(
        "int8-activations",
        "advice",
        "8-bit activations are faster from A17 Pro and M4 on only",
        (sources.QUANTIZED_ACTIVATIONS,),
        _activations,
    ),
)
