"""Operator times of LiteRT, by its own profiler, on a model of two operations."""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path

import numpy as np
import pytest
from litert_files import require_litert

from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.benchmarking import RuntimePlace, SessionSetup
from mobileclip_deploy.targets.litert import profiling
from mobileclip_deploy.targets.values import TensorInfo

require_litert()
from benchmark.android import tiny  # noqa: E402


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tiny.flatbuffer())
    return path


def test_a_profile_names_every_kernel_once_a_call(model: Path) -> None:
    setup = SessionSetup(
        RuntimePlace("litert", "cpu"),
        1,
        TensorInfo("x", "float32", tiny.SHAPE),
        TensorInfo("y", "float32", (1, tiny.WIDTH)),
    )
    session = get_target("litert").session(model, setup)
    session.feed(np.ones(tiny.SHAPE))
    session.run()
    calls = {one.operator: one.calls for one in session.profile()}
    assert calls == {"Fully Connected (NC, F32) GEMM": 1, "Static Reshape (NC)": 2}  # the product flattens once more
    np.testing.assert_allclose(session.answer(), tiny.weights().sum(0), rtol=1e-4)


def test_a_library_without_a_profiler_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "_opened", lambda: ctypes.CDLL(ctypes.util.find_library("m")))
    with pytest.raises(NotRun, match="LiteRT's profiler cannot be used: its library has no LiteRtCreateEnvironment"):
        profiling.operator_times(model, np.ones(tiny.SHAPE, np.float32), 1)
