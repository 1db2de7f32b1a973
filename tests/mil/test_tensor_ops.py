"""Ops that rearrange, cut, join, gather, scatter and resize compute what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mil.families import Results, check_definition, check_inference, evaluate_all
from mil.programs import Case

RNG = np.random.default_rng(1)


def _random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


X = _random(2, 3, 4)
I4 = RNG.integers(0, 9, (2, 3, 4)).astype(np.int32)
M, N = _random(2, 3), _random(2, 3)
P = _random(1, 8, 4, 6)
AT = np.array([[2, 0], [1, 1]], np.int32)
ND = np.array([[0, 2], [1, 0], [1, 1]], np.int32)
TOKENS = np.array([[3, 1, 9, 0]], np.int32)
TABLE = _random(10, 5)
ORDER = np.array([[3, 1, 2], [9, 7, 8]], np.float32)


def _scattered(mode):
    data = X.copy()
    for row, at in enumerate([2, 0]):
        new = UPDATES[:, row]
        old = data[:, at]
        data[:, at] = {
            "update": new, "add": old + new, "sub": old - new, "mul": old * new,
            "div": old / new, "max": np.maximum(old, new), "min": np.minimum(old, new),
        }[mode]  # fmt: skip
    return data


def _torch(function, x, **options):
    return function(torch.from_numpy(x).double(), **options).numpy()


UPDATES = _random(2, 2, 4)
WHERE = np.array([2, 0], np.int32)

CASES = [
    Case("reshape", {"x": X}, {"shape": [4, -1]}, X.reshape(4, 6)),
    Case("reshape", {"x": X}, {"shape": [0, -1, 2]}, X.reshape(2, 6, 2), opset=16),
    Case("reshape", {"x": X}, {"shape": [1, 0, -1, 0]}, X.reshape(1, 2, 3, 4), label="zeros-from-the-right"),
    Case("transpose", {"x": X}, {"perm": [2, 0, 1]}, X.transpose(2, 0, 1)),
    Case("transpose", {"x": X}, {"perm": [-1, -3, -2]}, X.transpose(2, 0, 1)),
    Case("expand_dims", {"x": X}, {"axes": [0, -1]}, X[None, ..., None]),
    Case("squeeze", {"x": X[:1, :, :1]}, {"axes": [0]}, X[0, :, :1]),
    Case("squeeze", {"x": X[:1, :, :1]}, {}, X[0, :, 0]),
    Case("flatten2d", {"x": X}, {"axis": 2}, X.reshape(6, 4)),
    Case("shape", {"x": X}, {}, np.array([2, 3, 4], np.int32)),
    Case("reverse", {"x": X}, {"axes": [0, -1]}, X[::-1, :, ::-1]),
    Case("reverse", {"x": X}, {}, X[::-1, ::-1, ::-1]),
    Case("pixel_shuffle", {"x": P}, {"upscale_factor": 2}, _torch(F.pixel_shuffle, P, upscale_factor=2)),
    Case(
        "pixel_unshuffle",
        {"x": P},
        {"downscale_factor": np.uint32(2)},
        _torch(F.pixel_unshuffle, P, downscale_factor=2),
    ),
    Case(
        "depth_to_space",
        {"x": P},
        {"block_size": 2},
        P.reshape(1, 2, 2, 2, 4, 6).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 8, 12),
    ),
    Case(
        "space_to_depth",
        {"x": P},
        {"block_size": 2},
        P.reshape(1, 8, 2, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(1, 32, 2, 3),
    ),
    Case("slice_by_index", {"x": X}, {"begin": [0, 1, 0], "end": [2, 3, 2]}, X[:, 1:3, :2]),
    Case("slice_by_index", {"x": X}, {"begin": [0, -2, 0], "end": [2, -1, 4], "stride": [1, 1, 2]}, X[:, -2:-1, ::2]),
    Case(
        "slice_by_index",
        {"x": X},
        {"begin": [0, 2, 3], "end": [2, 0, 0], "stride": [1, -1, -2], "end_mask": [True, False, True]},
        X[:, 2:0:-1, 3::-2],
        label="negative-strides",
    ),
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
    Case("slice_by_size", {"x": X}, {"begin": [0, 1, -2], "size": [1, -1, 2]}, X[:1, 1:, 2:]),
    Case("concat", {"values": [M, N, M]}, {"axis": 1}, np.concatenate([M, N, M], 1)),
    Case(
        "concat", {"values": [M, N]}, {"axis": -1, "interleave": True}, np.stack([M, N], -1).reshape(2, 6), infer=False
    ),  # coremltools' inference ignores `interleave`
    Case("stack", {"values": [M, N]}, {"axis": 1}, np.stack([M, N], 1)),
    Case("stack", {"values": [M, N]}, {"axis": -1}, np.stack([M, N], -1)),
    Case("split", {"x": X}, {"num_splits": 2, "axis": 2}, tuple(np.split(X, 2, 2))),
    Case("split", {"x": X}, {"split_sizes": [1, 2], "axis": 1}, (X[:, :1], X[:, 1:])),
    Case("tile", {"x": M}, {"reps": [2, 3]}, np.tile(M, (2, 3))),
    Case(
        "pad",
        {"x": X},
        {"pad": [1, 2, 0, 1], "mode": "constant", "constant_val": np.float32(0.5)},
        np.pad(X, ((0, 0), (1, 2), (0, 1)), constant_values=0.5),
    ),
    Case("pad", {"x": X}, {"pad": [2, 1], "mode": "reflect"}, np.pad(X, ((0, 0), (0, 0), (2, 1)), mode="reflect")),
    Case("pad", {"x": X}, {"pad": [2, 1], "mode": "replicate"}, np.pad(X, ((0, 0), (0, 0), (2, 1)), mode="edge")),
    Case("fill", {"shape": np.array([2, 3], np.int32)}, {"value": np.float32(1.5)}, np.full((2, 3), 1.5)),
    Case("fill_like", {"ref_tensor": M}, {"value": np.int32(7)}, np.full((2, 3), 7, np.int32)),
    Case(
        "one_hot",
        {"indices": TOKENS[0]},
        {"one_hot_vector_size": 5},
        (TOKENS[0][:, None] == np.arange(5)).astype(np.int32),
    ),
    Case(
        "one_hot",
        {"indices": TOKENS},
        {"one_hot_vector_size": 5, "axis": 1, "on_value": np.float32(2), "off_value": np.float32(-1)},
        np.where(TOKENS[:, None, :] == np.arange(5)[None, :, None], 2.0, -1.0),
        label="axis",
    ),
    Case("range_1d", {"start": np.int32(2), "end": np.int32(9), "step": np.int32(3)}, {}, np.arange(2, 9, 3, np.int32)),
    Case("band_part", {"x": X}, {"lower": 0, "upper": -1}, np.triu(X)),
    Case("band_part", {"x": X}, {"lower": 1, "upper": 0}, np.tril(np.triu(X, -1))),
    Case("cumsum", {"x": X}, {"axis": 1}, np.cumsum(X, 1)),
    Case("cumsum", {"x": I4}, {"axis": 1, "reverse": True}, np.cumsum(I4[:, ::-1], 1, np.int32)[:, ::-1], label="int"),
    Case("argsort", {"x": ORDER}, {"axis": 1}, np.array([[0, 2, 1], [0, 2, 1]], np.int32)),
    Case("argsort", {"x": ORDER}, {"axis": 1, "ascending": True}, np.array([[1, 2, 0], [1, 2, 0]], np.int32)),
    Case(
        "topk",
        {"x": ORDER},
        {"k": 2, "axis": 1},
        (np.array([[3, 2], [9, 8]], np.float32), np.array([[0, 2], [0, 2]], np.int32)),
    ),
    Case(
        "topk", {"x": ORDER}, {"k": 1, "axis": 0, "ascending": True}, (ORDER[:1], np.zeros((1, 3), np.int32)), opset=16
    ),
    Case("gather", {"x": TABLE, "indices": TOKENS}, {"axis": 0}, TABLE[TOKENS], label="embedding"),
    Case("gather", {"indices": TOKENS}, {"x": TABLE, "axis": 0, "validate_indices": True}, TABLE[TOKENS]),
    Case("gather", {"x": X, "indices": AT}, {"axis": 1}, X[:, AT]),
    Case(
        "gather",
        {"x": X, "indices": AT - 3},
        {"axis": -1, "batch_dims": 0},
        X[:, :, AT - 3],
        opset=16,
        label="negative-indices",
    ),
    Case("gather", {"x": X, "indices": AT}, {"axis": 1, "batch_dims": 1}, np.stack([X[0][AT[0]], X[1][AT[1]]])),
    Case(
        "gather",
        {"x": X, "indices": AT},
        {"axis": 2, "batch_dims": 1},
        np.stack([X[0][:, AT[0]], X[1][:, AT[1]]]),
        opset=16,
    ),
    Case(
        "gather",
        {"x": X, "indices": np.array([2, 0], np.int32)},
        {"axis": 1, "batch_dims": 1},
        np.stack([X[0, 2], X[1, 0]]),
        label="one-an-image",
    ),
    Case("gather_along_axis", {"x": M, "indices": AT}, {"axis": 1}, np.take_along_axis(M, AT, 1)),
    Case("gather_nd", {"x": X, "indices": ND}, {}, X[ND[:, 0], ND[:, 1]]),
    Case("gather_nd", {"x": X, "indices": AT[:, :1]}, {"batch_dims": 1}, np.stack([X[0, 2], X[1, 1]])),
    Case("gather_nd", {"x": X, "indices": np.array([[[1, -1]]], np.int32)}, {}, X[1, 2][None, None], opset=16),
    Case("non_zero", {"x": ORDER - 1}, {}, np.argwhere(ORDER - 1).astype(np.int32), opset=18),
    *(
        Case("scatter", {"data": X, "indices": WHERE, "updates": UPDATES}, {"axis": 1, "mode": mode}, _scattered(mode))
        for mode in ("update", "add", "sub", "mul", "div", "max", "min")
    ),
    Case(
        "scatter_along_axis",
        {"data": M, "indices": AT, "updates": N[:, :2]},
        {"axis": 1, "mode": "update"},
        np.array([[N[0, 1], M[0, 1], N[0, 0]], [M[1, 0], N[1, 1], M[1, 2]]]),
    ),
    Case(
        "scatter_nd",
        {"data": M, "indices": ND[:2], "updates": N[0, :2]},
        {"mode": "add"},
        M + np.array([[0, 0, N[0, 0]], [N[0, 1], 0, 0]]),
    ),
    Case(
        "upsample_nearest_neighbor",
        {"x": P},
        {"scale_factor_height": 2, "scale_factor_width": 3},
        P.repeat(2, 2).repeat(3, 3),
    ),
    Case(
        "upsample_bilinear",
        {"x": P},
        {"scale_factor_height": 2, "scale_factor_width": 2, "align_corners": False},
        _torch(F.interpolate, P, scale_factor=2, mode="bilinear", align_corners=False),
    ),
    Case(
        "upsample_bilinear",
        {"x": P},
        {"scale_factor_height": 2, "scale_factor_width": 2, "align_corners": True},
        _torch(F.interpolate, P, scale_factor=2, mode="bilinear", align_corners=True),
        opset=16,
    ),
    Case(
        "resize_bilinear",
        {"x": P},
        {"target_size_height": 7, "target_size_width": 5, "sampling_mode": "UNALIGN_CORNERS"},
        _torch(F.interpolate, P, size=(7, 5), mode="bilinear", align_corners=False),
    ),
    Case(
        "resize_bilinear",
        {"x": np.array([[[0, 1]]], np.float32)},
        {"target_size_height": 1, "target_size_width": 5, "sampling_mode": "DEFAULT"},
        np.array([[[0, 0.4, 0.8, 1, 1]]]),
    ),
    Case(
        "resize_bilinear",
        {"x": np.array([[[0, 1]]], np.float32)},
        {"target_size_height": 1, "target_size_width": 5, "sampling_mode": "OFFSET_CORNERS"},
        np.array([[[0.1, 0.3, 0.5, 0.7, 0.9]]]),
    ),
    Case(
        "resize_nearest_neighbor",
        {"x": P},
        {"target_size_height": 8, "target_size_width": 3},
        _torch(F.interpolate, P, size=(8, 3), mode="nearest"),
    ),
    Case(
        "resize",
        {"x": P},
        {"shape": [8, 0], "resized_dims": np.uint32(2), "sampling_mode": "STRICT_ALIGN_CORNERS"},
        _torch(F.interpolate, P, size=(8, 6), mode="bilinear", align_corners=True),
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
