"""From a bundle to a table and back, through the real harness; only Core ML itself is stood in for."""

import subprocess
from pathlib import Path

import pytest
from benchmark.ios.phone_folder import UDID, FolderPhone, IphoneBenchmark
from command_line import run

from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.benchmark.ios import devices, exchange
from mobileclip_deploy.benchmark.ios.driver import IosDriver
from mobileclip_deploy.errors import RuntimeFailed

UNITS = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")


def test_a_job_goes_to_the_phone_and_its_result_comes_back(benchmark: IphoneBenchmark, phone: FolderPhone) -> None:
    done = benchmark()
    assert done.code == 0, done.stderr
    result = read_result(benchmark.output)
    assert [cell.compute_units for cell in result.job.cells] == [*UNITS, *UNITS]
    for cell in result.cells:
        assert cell.status == "done", cell.error
        assert cell.golden.cosine > 0.999999
        assert [len(item.samples_ns) for item in cell.rounds] == [3, 3]
        assert cell.load_again_ns is not None
        assert cell.peak_memory_bytes is not None
    assert result.harness.quality_of_service == "userInitiated"
    assert not benchmark.output.with_name("result.json.partial").exists()


@pytest.mark.slow
def test_nothing_of_a_stand_in_can_be_taken_for_a_phones_which_is_left_as_it_was_but_for_the_app(
    benchmark: IphoneBenchmark, phone: FolderPhone
) -> None:
    table = benchmark("--tower", "text").stdout
    assert [file for file in phone.files() if not file.startswith("compiled/")] == []
    commands = [call[1:5] for call in phone.calls() if call[0] == "xcrun"]
    assert ["devicectl", "device", "install", "app"] in commands
    assert all("--json-output" in call for call in phone.calls() if call[0] == "xcrun")
    result = read_result(benchmark.output)
    assert result.device.simulated
    assert (result.device.name, result.device.os) == ("stand-in", "Linux")
    assert result.runtimes == {"coreml": "stand-in"}
    assert "SIMULATED" in table
    for name in ("report.html", "report.md"):
        page = benchmark.output.with_name(name)
        assert run("report", benchmark.output, "-o", page).code == 0
        assert "SIMULATED" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_package_that_no_connection_carries_whole_is_sent_in_parts(
    benchmark: IphoneBenchmark, phone: FolderPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "PART_BYTES", 1_000_000)
    phone.settings(breaks_copies_over=1_000_000)
    done = benchmark("--tower", "text")
    assert done.code == 0, done.stderr
    sent = [call for call in phone.calls() if call[1:4] == ["devicectl", "device", "copy"] and call[4] == "to"]
    assert any("weight.bin.part001of" in word for call in sent for word in call)


@pytest.mark.slow
def test_a_job_for_a_phone_out_of_reach_comes_by_hand_runs_there_and_report_reads_what_it_sends(
    benchmark: IphoneBenchmark, phone: FolderPhone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    done = run("benchmark", benchmark.bundle, "--device", "ios", "--quick", "--tower", "text", "--job", runs)
    assert done.code == 0, done.stderr
    (job,) = runs.iterdir()
    assert done.stdout == f"wrote {job}\n"
    assert {path.name for path in job.iterdir()} == {"job.json", "golden", "models"}
    assert not (phone.folder / "calls.jsonl").exists()
    assert run("benchmark", benchmark.bundle, "--device", "mac", "--job", runs).code == 2
    monkeypatch.setenv("COREML_STAND_IN", str(phone.folder / "core_ml.json"))
    command = [str(phone.harness), "--documents", str(tmp_path), "--standing-in-for", "ios", "--run", job.name]
    subprocess.run(command, check=True)
    (sent,) = tmp_path.glob("results/*/*.run.json")
    result = read_result(sent)
    assert {cell.status for cell in result.cells} == {"done"}
    assert not result.self_reported


def test_a_model_that_answers_wrongly_gets_no_latency(benchmark: IphoneBenchmark, phone: FolderPhone) -> None:
    phone.core_ml(answers=benchmark.answers, wrong=["nano_text.mlpackage"])
    done = benchmark()
    assert done.code == 1
    cells = {cell.id: cell for cell in read_result(benchmark.output).cells}
    wrong = [cell for name, cell in cells.items() if ".text." in name]
    assert {cell.status for cell in wrong} == {"invalid"}
    assert all(cell.summary is None for cell in wrong)
    assert {cell.status for name, cell in cells.items() if ".image." in name} == {"done"}


@pytest.mark.usefixtures("without_phones")
def test_devices_lists_the_phone(phone: FolderPhone) -> None:
    listed = {one["device"]: one for one in run("devices", "--json").json}
    found = listed[f"ios:{UDID}"]
    assert (found["state"], found["name"]) == ("ready", "Jo's iPhone (iPhone 13, iOS 18.1)")


def test_of_several_iphones_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        devices.AppleDevice(udid, f"id-{udid}", f"iPhone {udid}", "iPhone 15", "18.1", "ready", None)
        for udid in ("A1", "B2")
    ]
    monkeypatch.setattr(devices, "list_devices", lambda: tuple(found))
    with pytest.raises(RuntimeFailed, match=r"several devices are ready; name one with `device`: ios:A1 .*ios:B2"):
        devices.choose(None)
    assert devices.choose("b2") == found[1]
    driver = get_driver("ios:B2")
    assert isinstance(driver, IosDriver)
    assert driver.selector == "B2"
