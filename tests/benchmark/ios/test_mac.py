"""--device mac: the harness as a program of this machine; and what keeps a stand-in from being taken for a device."""

import base64
import json
import platform
import plistlib
from pathlib import Path
from typing import Any

import pytest
from benchmark import documents
from benchmark.ios.phone_folder import IphoneBenchmark
from command_line import run
from exports import Exports
from programs import script

from mobileclip_deploy.benchmark.documents import read_result, read_stream
from mobileclip_deploy.benchmark.driver import get_driver
from mobileclip_deploy.benchmark.ios import mac, power
from mobileclip_deploy.benchmark.ios.exchange import checked_run, store_rounds
from mobileclip_deploy.benchmark.job import Turn
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import RoundResult, Run
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed, UsageError

SAMPLE = {
    "elapsed_ns": 5_000_000_000,
    "hw_model": "Mac14,2",
    "processor": {"cpu_energy": 1923, "cpu_power": 384.6, "gpu_energy": 5807, "gpu_power": 1161.4, "ane_energy": 0},
}


def test_the_harness_runs_as_a_program_and_one_that_dies_keeps_its_rounds(
    swift: Path, answers: list[dict[str, Any]], exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the build is left out: it needs a Mac."""
    model = {"output": "final_emb_1", "answers": answers, "wrong": [], "failing": {}, "microseconds": {}, "plans": {}}
    monkeypatch.setenv("COREML_STAND_IN", str(tmp_path / "core_ml.json"))
    monkeypatch.setattr(mac, "build_harness", lambda: swift / "mobileclip-harness")
    monkeypatch.setattr(mac, "SECONDS", 0.05)
    monkeypatch.setattr(power, "COMMAND", (str(tmp_path / "powermetrics"),))
    script(tmp_path / "powermetrics", "echo 'sudo: a password is required' >&2; exit 1")
    benchmark = IphoneBenchmark(exports.bundle("coreml", "fp16").path, tmp_path / "result.json", [])
    (tmp_path / "core_ml.json").write_text(json.dumps(model | {"killAtInference": 33}), encoding="utf-8")
    done = benchmark("--tower", "text", device="mac")
    assert done.code == 3
    assert "the harness ended (exit -9" in done.stderr
    (tmp_path / "core_ml.json").write_text(json.dumps(model), encoding="utf-8")
    # The keys that public parsers of `powermetrics --format plist` read, such as asitop's, and a NUL behind each list.
    (tmp_path / "sample").write_bytes(plistlib.dumps(SAMPLE) + b"\0")
    cut_off = "printf '<plist><dict><key>el'; while sleep 0.02; do printf . || exit 1; done"
    script(tmp_path / "powermetrics", f"cat {tmp_path}/sample {tmp_path}/sample; {cut_off}")
    done = benchmark("--tower", "text", "--resume", device="mac")
    assert done.code == 0, done.stderr
    result = read_result(benchmark.output)
    used = result.environment.power
    assert used is not None
    assert (used.cpu_milliwatts, used.gpu_milliwatts, used.neural_engine_milliwatts) == (384.6, 1161.4, 0)
    assert result.device.kind == "mac"
    assert result.device.simulated == (platform.system() != "Darwin")
    assert {cell.status for cell in result.cells} == {"done"}


@pytest.mark.skipif(platform.system() == "Darwin", reason="this is a Mac")
def test_elsewhere_a_mac_is_asked_for() -> None:
    with pytest.raises(RuntimeFailed, match="needs a Mac"):
        mac.build_harness()
    (listing,) = get_driver("mac").discover()
    assert (listing.device, listing.state) == ("mac", "unavailable here")
    assert "for Macs only" in str(listing.remedy)
    with pytest.raises(UsageError, match="there is only one Mac"):
        get_driver("mac:mine")


def test_without_xcode_a_phone_is_refused_in_one_line_and_one_that_cannot_list_devices_says_so(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("benchmark", exports.bundle("coreml", "fp16").path, "--device", "ios", "--json", tmp_path / "r.json")
    assert done.code == 3
    assert "needs a Mac with Xcode 16" in done.stderr
    (listing,) = get_driver("ios").discover()
    assert (listing.device, listing.state) == ("ios", "unavailable here")
    assert "needs a Mac with Xcode 16" in str(listing.remedy)
    script(tmp_path / "xcrun", "echo 'xcrun: error: unable to find utility \"devicectl\"' >&2; exit 72")
    (listing,) = get_driver("ios").discover()
    assert listing.state == "out of reach"
    assert "xcode-select" in str(listing.remedy)


def plan_and_run(simulated: bool, kind: str = "ios") -> tuple[Plan, bytes]:
    sent = documents.sent()
    device = sent.device.model_copy(update={"simulated": simulated, "kind": kind})
    return Plan(Path(), sent.job), sent.model_copy(update={"device": device}).model_dump_json().encode()


def test_what_was_fetched_without_a_mac_or_from_a_stand_in_is_simulated_and_a_phones_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, data = plan_and_run(simulated=False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert checked_run(data, plan, "ios").device.simulated
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    for simulated in (False, True):
        plan, data = plan_and_run(simulated)
        assert checked_run(data, plan, "ios").device.simulated is simulated
    _, data = plan_and_run(simulated=True)
    assert Run.model_validate_json(data).device.simulated


def test_a_result_of_something_else_is_refused() -> None:
    plan, data = plan_and_run(simulated=False, kind="mac")
    with pytest.raises(RuntimeFailed, match="of kind mac, not ios"):
        checked_run(data, plan, "ios")
    other = Plan(Path(), documents.job(run_id="another"))
    with pytest.raises(RuntimeFailed, match="another job"):
        checked_run(data, other, "mac")
    with pytest.raises(RuntimeFailed, match="its file is gone"):
        checked_run(None, plan, "ios")


def test_a_devices_stream_is_taken_over_judged_and_what_is_here_already_stays(tmp_path: Path) -> None:
    plan = Plan(tmp_path, documents.job(), expected=documents.EXPECTED)
    (answers,) = (base64.b64encode(one.tobytes()) for one in documents.EXPECTED.values())
    base = {"run_id": plan.job.run_id, "status": "done", "samples_ns": (7,), "golden": documents.GOLDEN}
    right, wrong, second = (
        RoundResult.model_validate(base | {"cell": cell, "round": number, "answers": own})
        for cell, number, own in (("onnx-image", 0, answers), ("executorch-image", 0, None), ("onnx-image", 1, None))
    )
    store_rounds(None, plan)
    assert not plan.stream.exists()
    lines = [item.model_dump_json().encode() + b"\n" for item in (right, wrong)]
    store_rounds(b"".join(lines), plan, {Turn(cell="onnx-image", round=0)})
    kept = plan.stream.read_bytes()
    boast = wrong.model_copy(update={"answers": None, "samples_ns": (1,)})
    store_rounds(lines[0] + boast.model_dump_json().encode() + b"\n" + second.model_dump_json().encode() + b"\n{", plan)
    assert plan.stream.read_bytes().startswith(kept)
    found = {(item.cell, item.round): item for item in read_stream(plan.stream, plan.job)}
    assert {turn: item.status for turn, item in found.items()} == {
        ("onnx-image", 0): "done",
        ("executorch-image", 0): "invalid",
        ("onnx-image", 1): "done",
    }
    assert [bool(item.warnings) for item in found.values()] == [True, False, False]
    assert found["onnx-image", 1].golden is None
    with pytest.raises(InvalidInput, match=r"the device's .*, line 1: not a round"):
        store_rounds(b"x\n", plan)


def test_a_swift_that_is_too_old_is_told() -> None:
    said = "error: package 'harnesscore' is using Swift tools version 6.0.0 but the installed version is 5.10.0"
    assert mac.OLD_SWIFT.findall(said) == ["5.10.0"]
