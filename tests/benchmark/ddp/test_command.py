"""`benchmark --device ddp:...` as a user types it: several phones of which one is lost, and a run that is resumed."""

import json
from pathlib import Path

import pytest
from benchmark.android import harness, tiny
from benchmark.ddp.standin import Cloud
from command_line import Outcome, run
from exports import Exports

from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.ddp import driver
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.driver import get_driver

pytestmark = pytest.mark.slow


@pytest.fixture
def bundle(built: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOBILECLIP_ANDROID_RUNNERS", str(built / "bin"))
    return exports.unverified("onnx", "fp32", "both").path


def measure(bundle: Path, phones: str, output: Path, *more: str) -> Outcome:
    return run("benchmark", bundle, "--quick", "--tower", "text", "--device", f"ddp:{phones}", "--json", output, *more)


def test_a_phone_that_is_lost_does_not_end_the_others(cloud: Cloud, bundle: Path, tmp_path: Path) -> None:
    cloud.fault, cloud.only = "error", "pa3q-35"
    outcome = measure(bundle, "caiman-35,pa3q-35", tmp_path / "rented.json")
    assert outcome.code == 3
    assert "on pa3q-35 has no result (The device was lost during the run.): the phone is gone" in outcome.stderr
    assert [path.name for path in tmp_path.glob("rented*")] == ["rented-caiman-35.json"]
    result = read_result(tmp_path / "rented-caiman-35.json")
    assert [cell.golden and cell.golden.passed for cell in result.cells] == [True]
    for text in (outcome.stdout, outcome.stderr):
        assert "SIMULATED" in text
    report = tmp_path / "report.md"
    assert run("report", tmp_path / "rented-caiman-35.json", "-o", report).code == 0
    assert "SIMULATED ddp: Pixel 9 Pro, Android 15 (caiman-35, rented 2026-12-01)" in report.read_text("utf-8")


def test_a_run_that_was_left_alone_is_fetched_and_not_paid_again(
    cloud: Cloud, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "rented.json"
    cloud.fault = "slow"
    with monkeypatch.context() as patched:
        patched.setattr(driver, "QUEUE_SECONDS", -1e6)
        left = measure(bundle, "caiman-35", output)
    assert left.code == 3
    assert "go on with --resume, which fetches the session session-00000001" in left.stderr
    stored = json.loads((tmp_path / "rented.json.partial" / "session.json").read_text())
    assert (stored["session"], stored["device"]) == ("session-00000001", "caiman-35")
    again = measure(bundle, "caiman-35", output)
    assert (again.code, "add --resume" in again.stderr) == (2, True)
    cloud.fault = ""
    other = measure(bundle, "pa3q-35", output, "--resume")
    assert (other.code, "is of caiman-35; write --device ddp:caiman-35" in other.stderr) == (2, True)
    resumed = measure(bundle, "caiman-35", output, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert len(cloud.sessions) == 1
    result = read_result(output)
    assert result.device.rental
    assert result.device.rental.session == "session-00000001"
    assert not (tmp_path / "rented.json.partial").exists()


def test_programs_for_phones_are_run_by_qemu(
    cloud: Cloud, arm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.needs("unshare", headers=False)
    monkeypatch.setenv("MOBILECLIP_ANDROID_RUNNERS", str(arm / "bin"))
    cloud.arm = True
    (phone,) = get_driver("ddp:caiman-35").each()
    measured = phone.run(tiny.plan(tmp_path / "plan"), silent)
    assert [cell.golden and cell.golden.passed for cell in assemble(measured).cells] == [True]
    assert (measured.device.architecture, measured.device.simulated) == ("arm64-v8a", True)


def test_one_document_is_printed_for_one_phone_alone(cloud: Cloud, bundle: Path) -> None:
    outcome = measure(bundle, "caiman-35,pa3q-35", Path("-"))
    assert (outcome.code, "--json - prints one result" in outcome.stderr) == (2, True)
    assert cloud.sessions == {}
