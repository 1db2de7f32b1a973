"""`devices` and `benchmark --device android` as a user types them."""

from pathlib import Path

import pytest
from benchmark.android.standin import Phones
from command_line import run
from exports import Exports

from mobileclip_deploy.benchmark.android.adb import quoted
from mobileclip_deploy.benchmark.documents import read_result


@pytest.fixture(autouse=True)
def configured(phones: Phones, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The built harness, and a folder on the phone that exists."""
    monkeypatch.setenv("MOBILECLIP_ANDROID_RUNNERS", str(built / "bin"))
    monkeypatch.setenv("MOBILECLIP_ANDROID_FOLDER", f"{phones.storage}/x")


def test_devices_lists_the_phone(phones: Phones) -> None:
    listed = {row["device"]: row for row in run("devices", "--json").json}
    assert listed[f"android:{phones.serial()}"] == {
        "schema_version": 1,
        "device": f"android:{phones.serial()}",
        "name": "Stand-in Phone 1, Android 16, x86_64 (simulated)",
        "state": "ready",
        "remedy": None,
    }


@pytest.mark.parametrize(
    "phones", [{}, pytest.param({"own_shell": True}, marks=pytest.mark.slow)], indirect=True, ids=["Debian", "Android"]
)
def test_nano_is_measured_on_the_phone_by_either_shell(phones: Phones, exports: Exports, tmp_path: Path) -> None:
    bundle, output = exports.bundle("onnx", "fp32").path, tmp_path / "phone.json"
    assert ("MIRBSD KSH" in phones.adb("shell", "echo $KSH_VERSION")) == phones.own_shell
    assert ("toybox" in phones.adb("shell", "readlink $(command -v sha256sum)")) == phones.own_shell
    found = run("benchmark", bundle, "--quick", "--device", f"android:{phones.serial()}", "--json", output)
    assert found.code == 0, found.stderr
    assert f"wrote {output}" in found.stdout
    assert "SIMULATED" in found.stderr
    result = read_result(output)
    assert [cell.status for cell in result.cells] == ["done", "done"]
    assert all(cell.golden and cell.golden.passed for cell in result.cells)
    assert not output.with_name("phone.json.partial").exists()


def test_without_a_phone_it_is_exit_code_3_and_one_line(phones: Phones, exports: Exports, tmp_path: Path) -> None:
    phones.disconnect()
    phones.adb("disconnect")
    arguments = (exports.bundle("onnx", "fp32").path, "--device", "android", "--json", tmp_path / "none.json")
    found = run("benchmark", *arguments)
    assert found.code == 3
    assert found.stderr.splitlines()[-1].startswith("error: no Android phone is connected: plug one in")
    assert not list(tmp_path.glob("none*"))


def test_a_job_for_a_phone_out_of_reach_brings_its_programs_and_report_reads_what_it_leaves(
    phones: Phones, exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where the job and what it should answer is kept
    bundle = exports.bundle("onnx", "fp32").path
    done = run("benchmark", bundle, "--device", "android", "--quick", "--tower", "text", "--job", tmp_path / "jobs")
    assert done.code == 0, done.stderr
    (job,) = (tmp_path / "jobs").iterdir()
    assert done.stdout == f"wrote {job}\n"
    assert phones.running() == []
    place = f"{phones.storage}/by hand"
    phones.set_clock(1, "scaling_max_freq", 1_500_000)
    phones.adb("push", str(job), place)
    moved = f"{phones.storage}/run.sh"  # it takes the folder that it is given, not its own; farms give none
    said = phones.adb("shell", f"mv {quoted(f'{place}/run.sh', moved)} && sh {quoted(moved, place)}").splitlines()
    assert said[-1] == "mobileclip-shell-ended 0", said
    phones.adb("pull", f"{place}/results/{job.name}.run.json", str(tmp_path))
    result = read_result(tmp_path / f"{job.name}.run.json")
    assert [(cell.status, cell.golden and cell.golden.passed) for cell in result.cells] == [("done", True)]
    assert not result.self_reported
    assert (result.device.kind, result.device.name, result.device.simulated) == ("android", "Phone 1", True)
    # As the driver pins: the faster of two kinds; and what a phone does to it is told of as in any other run.
    assert {used.core for item in result.cells[0].rounds for used in item.cores} == {1}
    assert result.cells[0].warnings[0] == "throttled: core 1 was allowed 1.5 GHz of 2.9 GHz"
    assert phones.asked() == ["svc power stayon true"]
    assert phones.stays_on() is None
    assert run("report", tmp_path / f"{job.name}.run.json", "-o", tmp_path / "page.html").code == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another computer"))
    assert read_result(tmp_path / f"{job.name}.run.json").self_reported
