"""The benchmark on this machine, from the command line: no figures for wrong answers, and nothing lost."""

import shutil
from pathlib import Path

import pytest
from command_line import refusal, run, strict_json
from exports import Exports
from planted import inside, plant, ran
from safetensors.numpy import load_file, save_file
from safetensors.torch import safe_open

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.door import benchmark as measure
from mobileclip_deploy.benchmark.host.driver import HostDriver
from mobileclip_deploy.benchmark.host.machine import instructions, snapshot
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Run

QUICK = ("--quick", "--tower", "image")


@pytest.fixture(scope="module")
def finished(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A result and what was printed: a bundle, its own file as a competitor, the checkpoint in torch."""
    folder = tmp_path_factory.mktemp("benchmark")
    bundle = exports.bundle("onnx", "fp32")
    foreign = shutil.copy(bundle.artifact("image"), folder / "theirs.onnx")
    options = ("--against", foreign, "--torch", "unfolded", "--checkpoint", exports.checkpoint, "--profile")
    with inside(plant(folder / "planted")):
        found = run("benchmark", bundle.path, *QUICK, *options, "--seed", "3", "--json", folder / "result.json")
    assert (found.code, ran(folder / "planted")) == (0, ""), found.stderr
    return folder / "result.json", found.stdout


def test_a_result_holds_raw_times_memory_loads_and_right_answers(finished: tuple[Path, str]) -> None:
    result = read_result(finished[0])
    assert [cell.status for cell in result.cells] == ["done"] * 3
    for cell in result.cells:
        assert [len(item.samples_ns) for item in cell.rounds] == [3, 3]
        assert cell.summary.cpu_ns
        assert cell.peak_memory_bytes
        assert cell.peak_memory_bytes > 10**7
        assert cell.load_first_ns
        assert cell.load_again_ns
        assert (cell.golden.passed, cell.golden.inputs) == (True, 8)
    assert result.job.seed == 3
    assert result.environment.after is not None
    assert not list(finished[0].parent.glob("*.partial"))


def test_the_table_has_a_row_for_each_and_says_where_the_result_is(finished: tuple[Path, str]) -> None:
    for word in ("onnxruntime", "theirs.onnx", "unfolded", "protocol standard-quick, seed 3", f"wrote {finished[0]}"):
        assert word in finished[1]


def test_a_profile_names_the_operators(finished: tuple[Path, str]) -> None:
    onnx, _, torch = read_result(finished[0]).cells
    assert "FusedConv" in {one.operator for one in onnx.profile} or "Conv" in {one.operator for one in onnx.profile}
    assert torch.profile
    # Counted call by call it is what is counted of the whole network, but for channels that kernels fill up.
    counted = [one.work.arithmetic_operations for one in onnx.profile if one.work]
    assert len(counted) == len(onnx.profile)
    assert onnx.arithmetic_operations
    assert 1 <= sum(counted) / onnx.arithmetic_operations < 1.01
    assert "one inference by operator" in finished[1]


def test_a_result_is_not_overwritten_unless_asked(finished: tuple[Path, str], exports: Exports) -> None:
    line = refusal(run("benchmark", exports.bundle("onnx", "fp32").path, "--json", finished[0]))
    assert "replace it with --force, or choose another output with --json" in line


def test_wrong_answers_have_no_latency_and_exit_code_one(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = exports.copy("onnx", "fp32", tmp_path)
    golden = bundle / "golden.safetensors"
    with safe_open(golden, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(golden)
    tensors["image_embeddings"] = tensors["image_embeddings"][::-1].copy()
    save_file(tensors, golden, metadata)
    found = run("benchmark", bundle, *QUICK, "--json", "-")
    assert found.code == 1
    told = strict_json(found.stderr.splitlines()[-1])["error"]
    wanted = "INVALID: nano-onnx-fp32.image.onnxruntime-cpu.t1: answers miss the gate relative <= 0.0001"
    assert (told["kind"], told["message"][: len(wanted)]) == ("gate_failed", wanted)
    (kept,) = tmp_path.glob("benchmark-host-*.json")
    assert found.json == strict_json(kept.read_text(encoding="utf-8"))
    (cell,) = read_result(kept).cells
    assert (cell.status, cell.summary, [item.samples_ns for item in cell.rounds]) == ("invalid", None, [()])


def test_an_interrupted_benchmark_says_how_to_go_on(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_: HostDriver, plan: Plan, __: Progress) -> Run:
        plan.stream.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(HostDriver, "run", stopped)
    with pytest.raises(KeyboardInterrupt) as caught:
        measure([exports.bundle("onnx", "fp32").path], tower="text", quick=True, output=tmp_path / "r.json")
    told = f"finished rounds are kept; go on with `output={tmp_path / 'r.json'}` and `resume=True`"
    assert caught.value.__notes__ == [told]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--device", "hots"), "did you mean host?"),
        (("--device", "host:7"), "there is only one host"),
        (("--protocol", "standart"), "did you mean standard?"),
        (("--resume",), "name it"),
        (("--resume", "--json", "nothing.json"), "no interrupted run"),
        (("--against", "a.bin"), "is an .onnx or a .pte"),
        (("--against", "a.onnx"), "no such file"),
    ],
)
def test_wrong_use_is_one_line(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint in refusal(run("benchmark", exports.bundle("onnx", "fp32").path, *arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_phones")
def test_the_host_is_listed() -> None:
    (host,) = [one for one in run("devices", "--json").json if one["device"] == "host"]
    assert host["state"] == "ready"


def test_the_state_of_a_laptop_is_read_from_sys(tmp_path: Path) -> None:
    for name, text in {
        "class/power_supply/BAT0/capacity": "81",
        "class/power_supply/BAT0/status": "Discharging",
        "class/thermal/thermal_zone0/temp": "46500",
        "devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
        "firmware/acpi/platform_profile": "low-power",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    found = snapshot(tmp_path)
    assert (found.battery_percent, found.charging, found.temperature_celsius) == (81, False, 46.5)
    assert (found.governor, found.low_power_mode) == ("powersave", True)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni ht", ("avx2", "avx512f", "avx512_vnni")),
        ("Features\t: fp asimd asimddp i8mm", ("asimddp", "i8mm")),
        ("model name\t: avx2 by name alone", ()),
    ],
)
def test_a_processor_tells_how_it_multiplies(tmp_path: Path, line: str, found: tuple[str, ...]) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n", encoding="utf-8")
    assert instructions(tmp_path / "cpuinfo") == found
    assert instructions(tmp_path / "none") == ()
