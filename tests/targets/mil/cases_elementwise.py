"""Elementwise ops and activations: cases with what their definitions give."""

import math

import numpy as np
from targets.mil.programs import Case

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
Y = RNG.normal(size=(3, 1)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.1)
N = RNG.integers(-9, 10, (2, 3)).astype(np.int32)
J = RNG.integers(1, 5, (3,)).astype(np.int32)
P = X > 0
ERF = np.vectorize(math.erf)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


CASES = [
    Case("add", {"x": X, "y": Y}, expected=X + Y),
    Case("add", {"x": N, "y": J}, expected=N + J, label="int"),
    Case("sub", {"x": X, "y": Y}, expected=X - Y),
    Case("mul", {"x": X, "y": Y}, expected=X * Y),
    Case("real_div", {"x": X, "y": Y}, expected=X / Y),
    Case("equal", {"x": N, "y": J}, expected=N == J),
    Case("greater_equal", {"x": N, "y": J}, expected=N >= J),
    Case("select", {"cond": P, "a": X, "b": -X}, expected=np.where(P, X, -X)),
    Case("abs", {"x": X}, expected=np.abs(X)),
    Case("sqrt", {"x": POSITIVE}, expected=np.sqrt(POSITIVE)),
    Case("tanh", {"x": X}, expected=np.tanh(X)),
    Case("clip", {"x": X}, {"alpha": np.float32(-0.5), "beta": np.float32(0.25)}, np.clip(X, -0.5, 0.25)),
    Case("cast", {"x": X * 3}, {"dtype": "int32"}, (X * 3).astype(np.int32)),
    Case("cast", {"x": N}, {"dtype": "fp32"}, N.astype(np.float32)),
    Case("cast", {"x": N}, {"dtype": "bool"}, N.astype(bool)),
    Case("cast", {"x": P}, {"dtype": "int32"}, P.astype(np.int32)),
    Case("relu", {"x": X}, expected=np.maximum(X, 0)),
    Case("sigmoid", {"x": X}, expected=_sigmoid(X)),
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
