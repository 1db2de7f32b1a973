"""Quantization of activations (iOS 17).

Definitions: coremltools, converters/mil/mil/ops/defs/iOS17/quantization_ops.py.
"""

from __future__ import annotations

import torch

from mobileclip_deploy.mil.faults import InvalidInput
from mobileclip_deploy.mil.ops.registry import Tensor, dtype_named, op

__all__: list[str] = []

_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def _along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    if parameter.dim() == 0:
        return parameter
    if axis is None or parameter.dim() != 1 or not -x.dim() <= axis < x.dim():
        raise InvalidInput("a scale or zero point that is not a scalar needs one dimension and an axis of the input")
    shape = [1] * x.dim()
    shape[axis] = parameter.shape[0]
    return parameter.reshape(shape)


@op("quantize", result=lambda types, values: dtype_named(values["output_dtype"]), shape="input")
def quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """clip(round(input / scale) + zero_point) to int8 or uint8; half rounds to even; scale per tensor or per `axis`."""
    if output_dtype not in _RANGES:
        raise InvalidInput(f"quantize has the output type {output_dtype!r}, not int8 or uint8")
    quantized = torch.round(input / _along(scale, input, axis))
    if zero_point is not None:
        quantized = quantized + _along(zero_point, input, axis).to(quantized.dtype)
    return torch.clamp(quantized, *_RANGES[output_dtype]).to(dtype_named(output_dtype).compute)


@op("dequantize", result="scale", shape="input")
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """scale * (input - zero_point), per tensor or per `axis`."""
    values = input.to(scale.dtype)
    if zero_point is not None:
        values = values - _along(zero_point, input, axis).to(scale.dtype)
    return values * _along(scale, input, axis)
