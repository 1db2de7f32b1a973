"""Convolutions, products of matrices and attention: cases with what their definitions give."""

import math

import numpy as np
from targets.mil.programs import Case

RNG = np.random.default_rng(1)


def _random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def _conv(x, weight, bias=None, strides=1, pads=(0, 0, 0, 0), dilation=1, groups=1):
    """Convolution in numpy, window by window: pads are top, bottom, left, right."""
    top, bottom, left, right = pads
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    (n, _, h, w), (out, per, kh, kw) = x.shape, weight.shape
    rows = (h - (kh - 1) * dilation - 1) // strides + 1
    columns = (w - (kw - 1) * dilation - 1) // strides + 1
    y = np.zeros((n, out, rows, columns))
    for o in range(out):
        first = o // (out // groups) * per
        for r in range(rows):
            for c in range(columns):
                window = x[
                    :,
                    first : first + per,
                    r * strides : r * strides + (kh - 1) * dilation + 1 : dilation,
                    c * strides : c * strides + (kw - 1) * dilation + 1 : dilation,
                ]
                y[:, o, r, c] = (window * weight[o]).sum((1, 2, 3))
    return y if bias is None else y + bias[:, None, None]


def _attention(q, k, v, mask=0.0):
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1]) + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


X, W, B = _random(1, 4, 7, 6), _random(6, 4, 3, 3), _random(6)
D, G = _random(4, 1, 3, 3), _random(6, 2, 3, 3)
L, V, M = _random(2, 5, 4), _random(3, 4), _random(2, 4, 3)
Q4, K4, V4 = _random(1, 2, 5, 4), _random(1, 2, 6, 4), _random(1, 2, 6, 3)
CAUSAL = np.triu(np.full((5, 6), -np.inf, np.float32), 1)

CASES = [
    Case("conv", {"x": X}, {"weight": W, "bias": B, "pad_type": "valid"}, _conv(X, W, B), label="valid"),
    Case("conv", {"x": X, "weight": W}, {"pad_type": "valid"}, _conv(X, W), label="dynamic-weight"),
    Case(
        "conv",
        {"x": X},
        {"weight": W, "bias": B, "pad_type": "custom", "pad": [0, 1, 2, 3], "strides": [2, 2]},
        _conv(X, W, B, strides=2, pads=(0, 1, 2, 3)),
        label="custom-asymmetric",
    ),
    Case(
        "conv",
        {"x": X},
        {"weight": W, "pad_type": "custom", "pad": [2, 2, 2, 2], "dilations": [2, 2]},
        _conv(X, W, pads=(2, 2, 2, 2), dilation=2),
        label="dilated",
    ),
    Case(
        "conv",
        {"x": X},
        {"weight": D, "pad_type": "custom", "pad": [1, 1, 1, 1], "groups": 4},
        _conv(X, D, pads=(1, 1, 1, 1), groups=4),
        label="depthwise",
    ),
    Case("conv", {"x": X}, {"weight": G, "pad_type": "valid", "groups": 2}, _conv(X, G, groups=2), label="groups"),
    Case("linear", {"x": L}, {"weight": V, "bias": B[:3]}, L @ V.T + B[:3], label="bias"),
    Case("linear", {"x": L}, {"weight": V}, L @ V.T, label="no-bias"),
    Case("matmul", {"x": L, "y": M}, {}, L @ M),
    Case("matmul", {"x": L, "y": M[:1]}, {}, L @ M[:1], label="broadcast"),
    Case(
        "matmul",
        {"x": np.swapaxes(L, 1, 2).copy(), "y": np.swapaxes(M, 1, 2).copy()},
        {"transpose_x": True, "transpose_y": True},
        L @ M,
    ),
    Case(
        "scaled_dot_product_attention",
        {"query": Q4, "key": K4, "value": V4},
        {},
        _attention(Q4, K4, V4),
        opset=18,
    ),
    Case(
        "scaled_dot_product_attention",
        {"query": Q4, "key": K4, "value": V4, "attn_mask": CAUSAL},
        {},
        _attention(Q4, K4, V4, CAUSAL),
        opset=18,
        label="causal",
    ),
    Case(
        "scaled_dot_product_attention",
        {"query": Q4, "key": K4, "value": V4, "attn_mask": CAUSAL == 0},
        {},
        _attention(Q4, K4, V4, CAUSAL),
        opset=18,
        label="bool-mask",
    ),
]
