"""Ops that rearrange, cut, join and gather: cases with what their definitions give."""

import numpy as np
from targets.mil.programs import Case

RNG = np.random.default_rng(1)


def _random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


X = _random(2, 3, 4)
PAD = ((0, 0), (1, 0), (0, 2))
I4 = RNG.integers(0, 9, (2, 3, 4)).astype(np.int32)
M, N = _random(2, 3), _random(2, 3)
AT = np.array([[2, 0], [1, 1]], np.int32)
TOKENS = np.array([[3, 1, 9, 0]], np.int32)
TABLE = _random(10, 5)


WHERE = np.array([2, 0], np.int32)

CASES = [
    Case("reshape", {"x": X}, {"shape": [4, -1]}, X.reshape(4, 6)),
    Case("transpose", {"x": X}, {"perm": [2, 0, 1]}, X.transpose(2, 0, 1)),
    Case("transpose", {"x": X}, {"perm": [-1, -3, -2]}, X.transpose(2, 0, 1)),
    Case("expand_dims", {"x": X}, {"axes": [0, -1]}, X[None, ..., None]),
    Case("pad", {"x": X}, {"pad": [1, 0, 0, 2], "constant_val": np.float32(3)}, np.pad(X, PAD, constant_values=3)),
    Case("pad", {"x": X}, {"pad": [1, 0, 0, 2], "mode": "reflect"}, np.pad(X, PAD, "reflect")),
    Case("pad", {"x": X}, {"pad": [1, 0, 0, 2], "mode": "replicate"}, np.pad(X, PAD, "edge")),
    Case("squeeze", {"x": X[:1, :, :1]}, {"axes": [0]}, X[0, :, :1]),
    Case("squeeze", {"x": X[:1, :, :1]}, {}, X[0, :, 0]),
    Case("slice_by_index", {"x": X}, {"begin": [0, 1, 0], "end": [2, 3, 2]}, X[:, 1:3, :2]),
    Case("slice_by_index", {"x": X}, {"begin": [0, -2, 0], "end": [2, -1, 4], "stride": [1, 1, 2]}, X[:, -2:-1, ::2]),
    Case(
        "slice_by_index",
        {"x": X},
        {
            "begin": [9, -1, 1],
            "end": [0, 0, 3],
            "begin_mask": [True, False, False],
            "end_mask": [True, False, False],
            "squeeze_mask": [False, True, False],
        },
        X[:, -1, 1:3],
        label="masks",
    ),
    Case(
        "slice_by_index",
        {"x": I4},
        {"begin": [1, 2, 3], "end": [2, 3, 4], "squeeze_mask": [True, True, True]},
        I4[1, 2, 3],
        label="scalar",
    ),
    Case(
        "slice_by_index",
        {"x": X, "begin": WHERE.repeat(2)[1:] * 0, "end": np.array([1, 2, 3], np.int32)},
        {},
        X[:1, :2, :3],
        label="computed-bounds",
    ),
    Case("concat", {"values": [M, N, M]}, {"axis": 1}, np.concatenate([M, N, M], 1)),
    Case("split", {"x": X}, {"num_splits": 2, "axis": 2}, tuple(np.split(X, 2, 2))),
    Case("split", {"x": X}, {"split_sizes": [1, 2], "axis": 1}, (X[:, :1], X[:, 1:])),
    Case("gather", {"x": TABLE, "indices": TOKENS}, {"axis": 0}, TABLE[TOKENS], label="embedding"),
    Case("gather", {"indices": TOKENS}, {"x": TABLE, "axis": 0, "validate_indices": True}, TABLE[TOKENS]),
    Case("gather", {"x": X, "indices": AT}, {"axis": 1}, X[:, AT]),
]
