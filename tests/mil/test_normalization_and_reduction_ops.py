"""Normalizations, reductions and activation quantization compute what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
from mil.families import Results, check_definition, check_inference, evaluate_all
from mil.programs import Case

RNG = np.random.default_rng(1)


def _random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def _normalized(x, axes, epsilon):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


X = _random(2, 3, 4, 5)
C1, C2, C3, C4 = _random(3), np.abs(_random(3)) + np.float32(0.1), _random(3), _random(3)
PER = (slice(None), None, None)
G, H = _random(4, 5), _random(4, 5)
N = RNG.integers(-5, 6, (3, 4)).astype(np.int32)
TIES = np.array([[3, 1, 3, 0], [0, 0, 0, 0]], np.int32)
POSITIVE = np.abs(X) + np.float32(0.1)
EPS = np.float32(1e-3)
SCALES = np.array([0.1, 0.2, 0.05], np.float32)


def _neighbours(x):
    """The sum over each channel and the ones beside it."""
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    return padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]


def _quantized(x, scale, zero, low, high):
    return np.clip(np.around(x / scale) + zero, low, high)


CASES = [
    Case(
        "batch_norm",
        {"x": X},
        {"mean": C1, "variance": C2, "gamma": C3, "beta": C4, "epsilon": EPS},
        C3[PER] * (X - C1[PER]) / np.sqrt(C2[PER] + EPS) + C4[PER],
        label="affine",
    ),
    Case("batch_norm", {"x": X}, {"mean": C1, "variance": C2}, (X - C1[PER]) / np.sqrt(C2[PER] + 1e-5), label="plain"),
    Case(
        "instance_norm",
        {"x": X},
        {"gamma": C3, "beta": C4, "epsilon": EPS},
        C3[PER] * _normalized(X, (2, 3), EPS) + C4[PER],
        label="affine",
    ),
    Case("instance_norm", {"x": X}, {}, _normalized(X, (2, 3), 1e-5), label="plain"),
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
    Case(
        "l2_norm",
        {"x": X},
        {"epsilon": EPS},
        X / np.sqrt((X**2).sum((1, 2, 3), keepdims=True) + EPS),
        tolerance=1e-5,
    ),
    Case(
        "local_response_norm",
        {"x": X},
        {"size": 3, "alpha": np.float32(0.5), "beta": np.float32(0.75), "k": np.float32(1.5)},
        X / (1.5 + 0.5 / 3 * _neighbours(X**2)) ** 0.75,
        label="three-channels",
    ),
    Case("reduce_sum", {"x": X}, {"axes": [1, -1]}, X.sum((1, 3))),
    Case("reduce_sum", {"x": X}, {"axes": [1], "keep_dims": True}, X.sum(1, keepdims=True)),
    Case("reduce_sum", {"x": X}, {}, X.sum(dtype=np.float64), label="all"),
    Case("reduce_sum", {"x": N}, {"axes": [0]}, N.sum(0).astype(np.int32), label="int"),
    Case("reduce_mean", {"x": X}, {"axes": [2, 3], "keep_dims": True}, X.mean((2, 3), keepdims=True)),
    Case("reduce_max", {"x": X}, {"axes": [1]}, X.max(1)),
    Case("reduce_min", {"x": N}, {"axes": [1]}, N.min(1), label="int"),
    Case("reduce_prod", {"x": X}, {"axes": [0, 2]}, X.prod((0, 2)), tolerance=1e-5),
    Case("reduce_l1_norm", {"x": X}, {"axes": [1]}, np.abs(X).sum(1)),
    Case("reduce_l2_norm", {"x": X}, {"axes": [1]}, np.sqrt((X**2).sum(1))),
    Case("reduce_sum_square", {"x": X}, {"axes": [1]}, (X**2).sum(1)),
    Case("reduce_log_sum", {"x": POSITIVE}, {"axes": [1]}, np.log(POSITIVE.sum(1))),
    Case("reduce_log_sum_exp", {"x": X}, {"axes": [1]}, np.log(np.exp(X).sum(1))),
    Case("reduce_argmax", {"x": X}, {"axis": 1}, X.argmax(1).astype(np.int32)),
    Case("reduce_argmax", {"x": X}, {"axis": -1, "keep_dims": True}, X.argmax(-1)[..., None].astype(np.int32)),
    Case("reduce_argmax", {"x": TIES}, {"axis": 1}, np.array([0, 0], np.int32), label="first-of-equal"),
    Case("reduce_argmax", {"x": X}, {"axis": 1}, X.argmax(1).astype(np.int32), opset=16),
    Case("reduce_argmin", {"x": X}, {"axis": 1}, X.argmin(1).astype(np.int32)),
    Case(
        "quantize",
        {"input": X},
        {"scale": np.float32(0.01), "zero_point": np.int8(5), "output_dtype": "int8"},
        _quantized(X, np.float32(0.01), 5, -128, 127).astype(np.int8),
        label="int8",
    ),
    Case(
        "quantize",
        {"input": X},
        {"scale": SCALES, "zero_point": np.array([0, 100, 200], np.uint8), "axis": 1, "output_dtype": "uint8"},
        _quantized(X, SCALES[PER], np.array([0, 100, 200])[PER], 0, 255).astype(np.uint8),
        label="uint8-per-channel",
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return evaluate_all(CASES, tmp_path_factory.mktemp("ops"))


@pytest.mark.parametrize("index", range(len(CASES)), ids=map(str, CASES))
def test_op_equals_its_definition(index: int, results: Results) -> None:
    check_definition(CASES[index], results[index])


@pytest.mark.parametrize("index", range(len(CASES)), ids=map(str, CASES))
def test_op_equals_coremltools_value_inference(index: int, results: Results) -> None:
    check_inference(CASES[index], results[index])
