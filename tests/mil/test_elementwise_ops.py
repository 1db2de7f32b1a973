"""Elementwise ops and activations compute what their definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mil.families import Results, check_definition, check_inference, evaluate_all
from mil.programs import Case

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
Y = RNG.normal(size=(3, 1)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.1)
UNIT = np.tanh(X).astype(np.float32)
N = RNG.integers(-9, 10, (2, 3)).astype(np.int32)
J = RNG.integers(1, 5, (3,)).astype(np.int32)
P, Q = X > 0, Y > 0
ERF = np.vectorize(math.erf)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


CASES = [
    Case("add", {"x": X, "y": Y}, expected=X + Y),
    Case("add", {"x": N, "y": J}, expected=N + J, label="int"),
    Case("sub", {"x": X, "y": Y}, expected=X - Y),
    Case("mul", {"x": X, "y": Y}, expected=X * Y),
    Case("real_div", {"x": X, "y": Y}, expected=X / Y),
    Case("floor_div", {"x": X, "y": Y}, expected=np.floor(X / Y)),
    Case("floor_div", {"x": N, "y": J}, expected=N // J, label="int"),
    Case("mod", {"x": X, "y": Y}, expected=X - Y * np.floor(X / Y), tolerance=1e-5),
    Case("mod", {"x": N, "y": J}, expected=N % J, label="int"),
    Case("pow", {"x": POSITIVE, "y": Y}, expected=POSITIVE**Y),
    Case("maximum", {"x": X, "y": Y}, expected=np.maximum(X, Y)),
    Case("minimum", {"x": X, "y": Y}, expected=np.minimum(X, Y)),
    Case("equal", {"x": N, "y": J}, expected=N == J),
    Case("not_equal", {"x": N, "y": J}, expected=N != J),
    Case("greater", {"x": X, "y": Y}, expected=X > Y),
    Case("greater_equal", {"x": N, "y": J}, expected=N >= J),
    Case("less", {"x": X, "y": Y}, expected=X < Y),
    Case("less_equal", {"x": N, "y": J}, expected=N <= J),
    Case("logical_and", {"x": P, "y": Q}, expected=P & Q),
    Case("logical_or", {"x": P, "y": Q}, expected=P | Q),
    Case("logical_xor", {"x": P, "y": Q}, expected=P ^ Q),
    Case("logical_not", {"x": P}, expected=~P),
    Case("select", {"cond": P, "a": X, "b": -X}, expected=np.where(P, X, -X)),
    Case("abs", {"x": X}, expected=np.abs(X)),
    Case("acos", {"x": UNIT}, expected=np.arccos(UNIT)),
    Case("asin", {"x": UNIT}, expected=np.arcsin(UNIT)),
    Case("atan", {"x": X}, expected=np.arctan(X)),
    Case("atanh", {"x": UNIT}, expected=np.arctanh(UNIT)),
    Case("ceil", {"x": X}, expected=np.ceil(X)),
    Case("cos", {"x": X}, expected=np.cos(X)),
    Case("cosh", {"x": X}, expected=np.cosh(X)),
    Case("erf", {"x": X}, expected=ERF(X)),
    Case("exp", {"x": X}, expected=np.exp(X)),
    Case("exp2", {"x": X}, expected=np.exp2(X)),
    Case("floor", {"x": X}, expected=np.floor(X)),
    Case("round", {"x": np.array([0.5, 1.5, -0.5, 2.4], np.float32)}, expected=np.array([0, 2, 0, 2.0])),
    Case("sign", {"x": X}, expected=np.sign(X)),
    Case("sin", {"x": X}, expected=np.sin(X)),
    Case("sinh", {"x": X}, expected=np.sinh(X)),
    Case("sqrt", {"x": POSITIVE}, expected=np.sqrt(POSITIVE)),
    Case("square", {"x": X}, expected=X * X),
    Case("tan", {"x": UNIT}, expected=np.tan(UNIT)),
    Case("tanh", {"x": X}, expected=np.tanh(X)),
    Case("inverse", {"x": POSITIVE}, expected=1 / (POSITIVE + 1e-4)),
    Case("inverse", {"x": POSITIVE}, {"epsilon": np.float32(0.5)}, 1 / (POSITIVE + 0.5)),
    Case("log", {"x": POSITIVE}, expected=np.log(POSITIVE)),
    Case("log", {"x": POSITIVE}, {"epsilon": np.float32(0.5)}, np.log(POSITIVE + 0.5)),
    Case("rsqrt", {"x": POSITIVE}, expected=1 / np.sqrt(POSITIVE)),
    Case("rsqrt", {"x": POSITIVE}, {"epsilon": np.float32(0.5)}, 1 / np.sqrt(POSITIVE + 0.5)),
    Case("clip", {"x": X}, {"alpha": np.float32(-0.5), "beta": np.float32(0.25)}, np.clip(X, -0.5, 0.25)),
    Case("threshold", {"x": X}, {"alpha": np.float32(0.2)}, np.maximum(X, 0.2)),
    Case("identity", {"x": X}, expected=X),
    Case("cast", {"x": X * 3}, {"dtype": "int32"}, (X * 3).astype(np.int32)),
    Case("cast", {"x": N}, {"dtype": "fp32"}, N.astype(np.float32)),
    Case("cast", {"x": N}, {"dtype": "bool"}, N.astype(bool)),
    Case("cast", {"x": P}, {"dtype": "int32"}, P.astype(np.int32)),
    Case("relu", {"x": X}, expected=np.maximum(X, 0)),
    Case("relu6", {"x": X * 9}, expected=np.clip(X * 9, 0, 6)),
    Case(
        "clamped_relu",
        {"x": X},
        {"alpha": np.float32(0.3), "beta": np.float32(0.5)},
        np.minimum(0.5, np.where(X >= 0, X, 0.3 * X)),
    ),
    Case("leaky_relu", {"x": X}, {"alpha": np.float32(0.1)}, np.where(X >= 0, X, 0.1 * X)),
    Case(
        "prelu",
        {"x": X[..., None]},
        {"alpha": np.array([0.1, 0.2, 0.3], np.float32)},
        np.where(X > 0, X, X * np.array([[0.1], [0.2], [0.3]]))[..., None],
    ),
    Case("thresholded_relu", {"x": X}, {"alpha": np.float32(0.4)}, np.where(X >= 0.4, X, 0)),
    Case("elu", {"x": X}, {"alpha": np.float32(0.7)}, np.where(X > 0, X, 0.7 * np.expm1(X))),
    Case("sigmoid", {"x": X}, expected=_sigmoid(X)),
    Case(
        "sigmoid_hard",
        {"x": X},
        {"alpha": np.float32(0.4), "beta": np.float32(0.3)},
        np.clip(0.4 * X + 0.3, 0, 1),
    ),
    Case("silu", {"x": X}, expected=X * _sigmoid(X)),
    Case("softplus", {"x": X}, expected=np.log1p(np.exp(X))),
    Case("softsign", {"x": X}, expected=X / (1 + np.abs(X))),
    Case("scaled_tanh", {"x": X}, {"alpha": np.float32(2), "beta": np.float32(0.5)}, 2 * np.tanh(0.5 * X)),
    Case("linear_activation", {"x": X}, {"alpha": np.float32(2), "beta": np.float32(0.5)}, 2 * X + 0.5),
    Case("softmax", {"x": X}, {"axis": -1}, np.exp(X) / np.exp(X).sum(-1, keepdims=True)),
    Case("softmax", {"x": X}, {"axis": 1}, np.exp(X) / np.exp(X).sum(1, keepdims=True)),
    Case("gelu", {"x": X}, {"mode": "EXACT"}, 0.5 * X * (1 + ERF(X / math.sqrt(2)))),
    Case(
        "gelu",
        {"x": X},
        {"mode": "TANH_APPROXIMATION"},
        0.5 * X * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3))),
    ),
    Case("gelu", {"x": X}, {"mode": "SIGMOID_APPROXIMATION"}, X * _sigmoid(1.702 * X)),
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
