"""Normalizations, reductions and activation quantization: cases with what their definitions give."""

import numpy as np
from targets.mil.programs import Case

RNG = np.random.default_rng(1)


def _random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def _normalized(x, axes, epsilon):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


X = _random(2, 3, 4, 5)
C3, C4 = _random(3), _random(3)
PER = (slice(None), None, None)
G, H = _random(4, 5), _random(4, 5)
EPS = np.float32(1e-3)


def _quantized(x, scale, zero, low, high):
    return np.clip(np.around(x / scale) + zero, low, high)


CASES = [
    Case(
        "layer_norm",
        {"x": X},
        {"axes": [2, 3], "gamma": G, "beta": H, "epsilon": EPS},
        _normalized(X, (2, 3), EPS) * G + H,
        label="last-axes",
    ),
    Case("layer_norm", {"x": X}, {"axes": [-1], "epsilon": EPS}, _normalized(X, (3,), EPS), label="plain"),
    Case(
        "layer_norm",
        {"x": X},
        {"axes": [1], "gamma": C3, "beta": C4, "epsilon": EPS},
        _normalized(X, (1,), EPS) * C3[PER] + C4[PER],
        label="channels-first",
    ),
    Case("reduce_sum", {"x": X}, {"axes": [1, -1]}, X.sum((1, 3))),
    Case("reduce_sum", {"x": X}, {"axes": [1], "keep_dims": True}, X.sum(1, keepdims=True)),
    Case("reduce_sum", {"x": X}, {}, X.sum(dtype=np.float64), label="all"),
    Case("reduce_mean", {"x": X}, {"axes": [2, 3], "keep_dims": True}, X.mean((2, 3), keepdims=True)),
    Case("reduce_max", {"x": X}, {"axes": [1]}, X.max(1)),
    Case("reduce_l2_norm", {"x": X}, {"axes": [1]}, np.sqrt((X.astype(np.float64) ** 2).sum(1))),
    Case("reduce_sum_square", {"x": X}, {"axes": [1]}, (X.astype(np.float64) ** 2).sum(1)),
    Case("reduce_argmax", {"x": X}, {"axis": 1}, X.argmax(1).astype(np.int32)),
    Case(
        "batch_norm",
        {"x": X},
        {"mean": C3, "variance": C4**2, "gamma": C4, "beta": C3, "epsilon": EPS},
        (X - C3[PER]) / np.sqrt(C4[PER] ** 2 + EPS) * C4[PER] + C3[PER],
    ),
    Case(
        "quantize",
        {"input": X},
        {"scale": np.float32(0.01), "zero_point": np.int8(5), "output_dtype": "int8"},
        _quantized(X, np.float32(0.01), 5, -128, 127).astype(np.int8),
        label="int8",
    ),
]
