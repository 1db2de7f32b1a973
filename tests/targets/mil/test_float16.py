"""float16 emulation rounds every result that is declared float16, and only those; sums are accumulated in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from targets.mil.programs import build

from mobileclip_deploy.targets.mil import Program, load

RNG = np.random.default_rng(8)


def _program(path: Path, shape: tuple[int, ...], body: Any, dtype: str = "float16") -> Program:
    return load(build(path / "p.mlpackage", {"x": (shape, dtype)}, body))


def test_each_result_is_rounded(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.sub(x=mb.add(x=x, y=np.float16(1000)), y=np.float16(1000), name="y")

    program = _program(tmp_path, (1,), body)
    x = np.array([0.3], np.float16)
    assert program({"x": x}, "float16")["y"] == np.float16(0.5)  # float16 steps by 0.5 there
    np.testing.assert_allclose(program({"x": x})["y"], x.astype(np.float32), atol=1e-4)


def test_results_declared_float32_are_not_rounded(tmp_path: Path) -> None:
    program = _program(tmp_path, (1,), lambda mb, x: mb.add(x=x, y=np.float32(1e-6), name="y"), "float32")
    np.testing.assert_array_equal(program({"x": [1.0]}, "float16")["y"], np.array([1.0], np.float32) + np.float32(1e-6))


def test_casts_round_and_widen(tmp_path: Path) -> None:
    def body(mb: Any, x: Any) -> Any:
        return mb.cast(x=mb.cast(x=x, dtype="fp16", name="half"), dtype="fp32", name="y")

    program = _program(tmp_path, (1,), body, "float32")
    x = np.array([1 / 3], np.float32)
    np.testing.assert_array_equal(program({"x": x}, "float16")["y"], x.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(program({"x": x})["y"], x)


def test_sums_are_accumulated_in_float32(tmp_path: Path) -> None:
    """In float16 accumulation a sum of ones stops at 2048."""
    ones = np.full((4096, 1), 1, np.float16)
    program = _program(tmp_path, (1, 4096), lambda mb, x: mb.matmul(x=x, y=ones, name="y"))
    assert program({"x": np.ones((1, 4096))}, "float16")["y"] == 4096


def test_overflow_is_infinite_only_where_it_is_rounded(tmp_path: Path) -> None:
    program = _program(tmp_path, (1,), lambda mb, x: mb.mul(x=x, y=x, name="y"))
    assert np.isinf(program({"x": [300.0]}, "float16")["y"])
    assert program({"x": [300.0]})["y"] == 90000


def test_masks_of_minus_infinity_pass_both_modes(tmp_path: Path) -> None:
    mask = np.triu(np.full((4, 4), -np.inf, np.float16), 1)
    program = _program(tmp_path, (4, 4), lambda mb, x: mb.softmax(x=mb.add(x=x, y=mask), axis=-1, name="y"))
    x = RNG.normal(size=(4, 4))
    for precision in ("float32", "float16"):
        y = program({"x": x}, precision)["y"]
        np.testing.assert_array_equal(np.triu(y, 1), np.zeros((4, 4)))
        np.testing.assert_allclose(y.sum(1), np.ones(4), rtol=2e-3)


def test_a_chain_equals_torch_with_the_same_roundings(tmp_path: Path) -> None:
    weight = RNG.normal(size=(8, 8)).astype(np.float16)
    bias = RNG.normal(size=8).astype(np.float16)
    epsilon = np.float16(1e-5)

    def body(mb: Any, x: Any) -> Any:
        hidden = mb.gelu(x=mb.linear(x=x, weight=weight, bias=bias), mode="EXACT")
        return mb.layer_norm(x=hidden, axes=[-1], epsilon=epsilon, name="y")

    x = RNG.normal(size=(3, 8)).astype(np.float16)
    value = torch.nn.functional.linear(
        torch.from_numpy(x).float(), torch.from_numpy(weight).float(), torch.from_numpy(bias).float()
    )
    value = torch.nn.functional.gelu(value.half().float()).half().float()
    expected = torch.nn.functional.layer_norm(value, (8,), eps=float(epsilon)).half()
    actual = _program(tmp_path, (3, 8), body)({"x": x}, "float16")["y"]
    assert actual.dtype == np.float16
    np.testing.assert_array_equal(actual, expected.numpy())
