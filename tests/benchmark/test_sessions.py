"""Sessions: a target that gives no more than a runner is timed by it."""

import importlib.metadata
import sys
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from programs import output

from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.benchmarking import RunnerSession, by_work


class Doubling:
    """A runner that remembers what it was given."""

    engine = "a test's"

    def __init__(self) -> None:
        self.given: list[npt.NDArray[Any]] = []

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        self.given.append(inputs)
        return (inputs.reshape(1, -1)[:, :2] * np.float32(2)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "given"),
    [
        (np.full((1, 3, 2, 2), 51, np.uint8), np.full((1, 3, 2, 2), 0.2, np.float32)),
        (np.full((1, 3, 2, 2), 0.5, np.float16), np.full((1, 3, 2, 2), 0.5, np.float32)),
        (np.array([[7, 8]], np.int32), np.array([[7, 8]], np.int64)),
    ],
    ids=["bytes", "pixels", "ids"],
)
def test_a_runner_gets_what_runners_take(values: npt.NDArray[Any], given: npt.NDArray[Any]) -> None:
    runner = Doubling()
    session = RunnerSession(runner)
    session.feed(values)
    session.run()
    assert runner.given[0].dtype == given.dtype
    np.testing.assert_array_equal(runner.given[0], given)
    np.testing.assert_array_equal(session.answer(), given.reshape(-1)[:2] * np.float32(2))
    with pytest.raises(NotRun, match="no profiler"):
        session.profile()


def test_kernels_are_added_up_by_name_and_ranked() -> None:
    rows = by_work([("Add", 1, None), ("Conv", 5, None), ("Add", 3, None), ("Mul", 4, None)])
    assert [(row.operator, row.calls, row.total_ns) for row in rows] == [("Conv", 1, 5), ("Add", 2, 4), ("Mul", 1, 4)]


def test_a_place_without_its_runtime_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_target("onnx").places("host", {})
    monkeypatch.setattr(importlib.metadata, "version", mock.Mock(side_effect=importlib.metadata.PackageNotFoundError))
    with pytest.raises(
        NotRun, match=r"onnxruntime is not installed; type: pip install 'mobileclip-deploy\[onnx-run\]'"
    ):
        get_target("onnx").places("host", {})


def test_a_process_that_times_onnx_runtime_loads_no_torch() -> None:
    """Its memory is measured, and torch alone takes more than most towers."""
    script = (
        "import sys; import mobileclip_deploy.benchmark.host.worker; from mobileclip_deploy.targets import get_target; "
        "get_target('onnx'); import mobileclip_deploy.targets.onnx.runner; "
        "assert not {'torch', 'coremltools', 'executorch'} & sys.modules.keys()"
    )
    output(sys.executable, "-c", script)
