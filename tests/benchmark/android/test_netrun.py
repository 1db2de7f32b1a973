"""A phone's NPU by Qualcomm's qnn-net-run: the real adb daemon, and a stand-in for the SDK (qairt.py)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark.android import qairt, tiny
from benchmark.android.standin import Phones

from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.android.netrun import NetRunDriver, executions
from mobileclip_deploy.benchmark.android.settings import AndroidSettings
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.errors import NotRun, RuntimeFailed, UsageError
from mobileclip_deploy.targets import get_target


def npu_plan(folder: Path, labels: tuple[str, ...] = ("v73", "v75"), error: float = 0.0) -> Plan:
    """`tiny` as a bundle of Qualcomm's has it: a folder with a binary for each architecture; two rounds."""
    rules = {"cool_seconds": 0.2}
    plan = tiny.plan(folder / "phone.json.partial", ("onnxruntime",), rounds=2, error=error, rules=rules)
    (cell,) = plan.job.cells
    artifact = plan.folder / "models/tiny/tiny_image.qnn"
    artifact.mkdir()
    for label in labels:
        (artifact / f"tiny_image.{label}.bin").write_bytes(qairt.context(label))
    ours = cell.model_copy(update={"runtime": "qnn", "backend": "htp", "file": "models/tiny/tiny_image.qnn"})
    return replace(plan, job=plan.job.model_copy(update={"cells": (ours,)}))


@pytest.fixture
def driver(phones: Phones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetRunDriver:
    """A driver for a phone with a Snapdragon 8 Gen 3, and an SDK."""
    monkeypatch.setenv("QNN_SDK_ROOT", str(qairt.write_sdk(tmp_path / "qairt")))
    phones.set_property("ro.soc.model", "SM8650")
    return NetRunDriver(settings=AndroidSettings(folder=f"{phones.storage}/x", cooling_seconds=0))


def test_the_npu_is_measured_by_the_tools_own_profile_after_its_answers(
    driver: NetRunDriver, phones: Phones, tmp_path: Path
) -> None:
    phones.set_thermal_status(1)
    run = driver.run(npu_plan(tmp_path), silent)
    assert [done.thermal_state for done in run.rounds] == ["fair"] * 2
    assert all(0.2 <= (done.cooled_seconds or 0) < 10 for done in run.rounds)
    result = assemble(run)
    (cell,) = result.cells
    assert (cell.status, cell.error) == ("done", None)
    assert (cell.golden.inputs, cell.golden.passed) == (2, True)
    # One warm-up and three inferences a process: the profile's microseconds of qnn-net-run itself, none of its parts.
    assert [done.samples_ns for done in run.rounds] == [(1_001_000, 1_002_000, 1_003_000)] * 2
    assert [done.load_first_ns for done in run.rounds] == [40_000_000] * 2
    assert result.runtimes == {"qnn": qairt.VERSION}
    assert (result.harness.name, result.harness.build) == ("qnn-net-run", "perf_profile burst")
    kept = tmp_path / "phone.json.qnn"
    answers = np.fromfile(kept / "tiny.onnxruntime.answers/out/Result_1/y.raw", np.float32)
    np.testing.assert_allclose(answers, tiny.examples()[1][1], rtol=1e-5)
    assert sorted(path.name for path in kept.glob("*/out/qnn-profiling-data_0.log")) == ["qnn-profiling-data_0.log"] * 3


def test_wrong_answers_have_no_latency_and_what_the_tool_refuses_fails_its_cell_with_its_words(
    driver: NetRunDriver, tmp_path: Path
) -> None:
    run = driver.run(npu_plan(tmp_path / "wrong", error=1.0), silent)
    assert [done.cooled_seconds for done in run.rounds] == [None]
    assert [(cell.status, cell.summary) for cell in assemble(run).cells] == [("invalid", None)]
    assert [done.samples_ns for done in run.rounds] == [()]
    plan = npu_plan(tmp_path / "refused")
    (plan.folder / "models/tiny/tiny_image.qnn/tiny_image.v75.bin").write_bytes(qairt.context("v73"))
    result = assemble(driver.run(plan, silent))
    assert "Could not create context from binary" in str(result.cells[0].error)


def test_a_chip_that_has_no_binary_and_an_sdk_that_is_not_there_are_told(
    driver: NetRunDriver, phones: Phones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotRun, match="has no binary for the phone's sm8650: export again with `chip='sm8650'`"):
        driver.run(npu_plan(tmp_path / "a", ("v73",)), silent)
    phones.set_property("ro.soc.model", "Exynos2400")
    with pytest.raises(NotRun, match="the NPU of the phone's chip exynos2400 is not supported; supported: sm8450"):
        driver.run(npu_plan(tmp_path / "b"), silent)
    phones.set_property("ro.soc.model", "SM8750")
    with pytest.raises(RuntimeFailed, match=r"lacks lib/aarch64-android/libQnnHtpV79Stub\.so: name another QAIRT SDK"):
        driver.run(npu_plan(tmp_path / "c", ("v79",)), silent)
    monkeypatch.delenv("QNN_SDK_ROOT")
    with pytest.raises(RuntimeFailed, match="qnn-net-run is part of Qualcomm's QAIRT SDK"):
        driver.run(npu_plan(tmp_path / "d"), silent)


def test_the_engine_is_androids_alone_and_runs_context_binaries_alone() -> None:
    driver = get_driver("android", engine="qnn-net-run")
    assert [place.label for place in driver.places("qnn", {})] == ["qnn-htp"]
    with pytest.raises(NotRun, match="runs context binaries of Qualcomm's NPU: export with `target='qnn'`"):
        driver.places("onnx", {})
    with pytest.raises(UsageError, match="`engine='qnn-net-run'` does not run on host devices; known: qnn-net-run for"):
        get_driver("host", engine="qnn-net-run")
    with pytest.raises(NotRun, match="measure with `engine='qnn-net-run'`"):
        get_driver("android").places("qnn", {})
    with pytest.raises(NotRun, match="x is not compiled for a chip"):
        get_target("onnx").open(Path("x")).compiled_for("sm8650", (1, 77))


def test_executions_are_read_from_the_viewers_table() -> None:
    table = [
        "Msg Timestamp,Message,Time,Unit of Measurement,Timing Source,Event Level,Event Identifier",
        "1, INIT, 331158, US, NETRUN, ROOT,",
        "2, EXECUTE, 2952, US, NETRUN, ROOT,",
        "2, EXECUTE, 2600, US, BACKEND, ROOT, QNN accelerator (execute) time",
        "2, EXECUTE, 2492000, CYCLES, BACKEND, ROOT, Accelerator (execute) time (cycles)",
        "",
        "3, EXECUTE, 2949, US, NETRUN, ROOT,",
    ]
    assert executions(line.split(",") for line in table) == [2952, 2949]
