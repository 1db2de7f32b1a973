"""Whole runs on stand-in phones, over the real adb daemon."""

import base64
import re
import threading
import time
from pathlib import Path

import pytest
from benchmark import documents
from benchmark.android import harness, tiny
from benchmark.android.scripted import GOOD, scripted_runners
from benchmark.android.standin import Phones

from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.android.driver import AndroidDriver
from mobileclip_deploy.benchmark.android.settings import AndroidSettings
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.job import get_protocol
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import CoreUse, Result
from mobileclip_deploy.errors import NotRun, RuntimeFailed, UsageError

FULL = {"running_khz": 2_900_000, "allowed_khz": 2_900_000, "maximum_khz": 2_900_000}


def driver(phones: Phones, runners: Path, selector: str | None = None, **changes: float) -> AndroidDriver:
    folder = f"{phones.storage}/{(selector or 'x')[-1]}"
    return AndroidDriver(selector, AndroidSettings(folder=folder, runners=runners, **changes))  # type: ignore[arg-type]


def run(phones: Phones, runners: Path, plan: Plan, **changes: float) -> Result:
    return assemble(driver(phones, runners, **changes).run(plan, silent))


def test_all_runtimes_are_measured_checked_and_marked_simulated(phones: Phones, built: Path, tmp_path: Path) -> None:
    runtimes = ("onnxruntime", "executorch", "litert")
    plan = tiny.plan(tmp_path / "plan", runtimes)
    told: list[str] = []
    result = assemble(driver(phones, built / "bin").run(plan, told.append))
    assert [(cell.status, cell.error) for cell in result.cells] == [("done", None)] * 3
    for cell in result.cells:
        assert cell.golden.passed
        assert cell.golden.relative < 1e-5
        assert cell.summary.samples == 6
        assert cell.load_again_ns
        assert cell.peak_memory_bytes
        assert {item.thermal_state for item in cell.rounds} == {"nominal"}
        # The faster of the two cores, at full clock.
        assert [item.cores for item in cell.rounds] == [(CoreUse(core=1, inferences=3, **FULL),)] * 2
        # That a core of this machine had other work is true, and not what is tested.
        assert [text for text in cell.warnings if "core" in text and not text.startswith("waited")] == []
    assert result.device.simulated
    assert (result.device.kind, result.device.name) == ("android", "Stand-in Phone 1")
    assert result.environment.before.battery_celsius == 29.7
    assert result.environment.before.fixed_performance_mode is False
    assert result.environment.after is not None
    assert result.runtimes == {name: harness.version(name) for name in runtimes}
    assert result.harness.affinity == (1,)
    assert phones.asked() == ["svc power stayon true"] * 2  # for the first rounds, and for the others
    assert phones.stays_on() is None
    assert re.fullmatch(r"6 of 6 rounds, about 0 s left: done", told[-1])
    counts = [int(text.partition(" of 6 rounds")[0]) for text in told]
    assert counts == sorted(counts)


def test_the_fixed_performance_mode_is_asked_for_recorded_and_its_clocks_are_not_called_throttled(
    phones: Phones, built: Path, tmp_path: Path
) -> None:
    phones.set_clock(1, "scaling_max_freq", 1_500_000)
    phones.keep_on("2")
    kept = 'cat "$(dirname "$(command -v settings)")/stay_on_while_plugged_in" >>"$1/../seen"\n' + GOOD
    runners = scripted_runners(built, tmp_path / "bin", kept)
    result = run(phones, runners, tiny.plan(tmp_path / "plan"), fixed_performance=True)
    assert result.environment.before.fixed_performance_mode is True
    fixed = [f"cmd power set-fixed-performance-mode-enabled {state}" for state in ("true", "false")]
    once = ["svc power stayon true", *fixed]
    assert phones.asked() == [*fixed, *once, *once]  # asked whether there is one; first rounds; the others
    assert (phones.storage / "x/seen").read_text() == "15\n15\n"
    assert phones.stays_on() == "2"


@pytest.mark.slow
def test_cells_are_pinned_by_their_own_number_of_threads(phones: Phones, built: Path, tmp_path: Path) -> None:
    script = 'grep Cpus_allowed_list /proc/self/status >"$1/../cores.$2"\n' + GOOD
    plan = tiny.plan(tmp_path / "plan", threads=(1, 2))
    result = run(phones, scripted_runners(built, tmp_path / "bin", script), plan)
    assert result.harness.affinity == (1,)  # two cores of one kind there are not
    found = {path.name: path.read_text().split()[-1] for path in (phones.storage / "x").glob("cores.*")}
    assert found == {"cores.tiny.onnxruntime": "1", "cores.tiny.onnxruntime.t2": "0-1"}


def test_nothing_that_a_job_brings_along_tells_what_is_right(phones: Phones, built: Path, tmp_path: Path) -> None:
    """What is expected is nowhere on the phone while it runs: not as raw numbers, and not as JSON or base64."""
    keep = 'if [ "$3" = 0 ]; then mkdir -p "$1/../seen"; cp -r "$1/." "$1/../seen"; fi\n' + GOOD
    plan = tiny.plan(tmp_path / "plan")
    run(phones, scripted_runners(built, tmp_path / "bin", keep), plan)
    (expected,) = plan.expected.values()
    first = expected[0].tobytes()
    brought = [path.read_bytes() for path in (phones.storage / "x/seen").rglob("*.[bjo]*") if "rounds" not in path.name]
    assert len(brought) == 3  # model, inputs, job
    assert not [one for one in brought if first in one or base64.b64encode(first)[:20] in one]


def test_no_name_reaches_a_shell_unquoted_and_nothing_is_left_behind(
    phones: Phones, built: Path, tmp_path: Path
) -> None:
    runners = scripted_runners(built, tmp_path / "run'ners $(touch pwned)")
    run(phones, runners, tiny.plan(tmp_path / "plan; touch pwned"))
    for place in (tmp_path, Path("/tmp"), Path("/")):
        assert not list(place.glob("pwned*"))
    assert not list(phones.storage.rglob("pwned*"))
    assert sorted(path.name for path in (phones.storage / "x/job").iterdir()) == ["golden", "models"]
    assert phones.running() == []


def _changes(phones: Phones) -> dict[Path, int]:
    """When each file was last touched on the phone. Not its modification time, which adb copies from the pushed file in
    whole seconds: two files that were made within a second share it."""
    return {path: path.stat().st_ctime_ns for path in phones.storage.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_only_what_changed_is_pushed(phones: Phones, built: Path, tmp_path: Path) -> None:
    runners = scripted_runners(built, tmp_path / "bin")
    run(phones, runners, tiny.plan(tmp_path / "first"))
    remote = phones.storage / "x/job"
    before = _changes(phones)
    second = tiny.plan(tmp_path / "second", other=1)  # other golden inputs, the same model
    run(phones, runners, second)
    after = _changes(phones)
    changed = {path.name for path in after if after[path] != before.get(path)}
    assert changed == {"inputs.bin", "lock"}
    (remote / "models/tiny/tiny.onnx").write_bytes(b"damaged on the phone")
    (remote / "left-over").write_text("of a job that is long gone")
    (remote / "models/tiny/tiny.onnx.part").write_text("of a push that was interrupted")
    run(phones, runners, tiny.plan(tmp_path / "third", other=1))
    assert (remote / "models/tiny/tiny.onnx").read_bytes() == tiny.onnx_bytes()
    assert {path.name for path in remote.rglob("*") if path.is_file()} == {"tiny.onnx", "inputs.bin"}


def test_a_file_that_arrives_damaged_is_told_and_removed(phones: Phones, built: Path, tmp_path: Path) -> None:
    phones.program("sha256sum", f"echo {'0' * 64}  -")
    with pytest.raises(RuntimeFailed, match=r"arrived on the phone .* damaged: change the cable and run again"):
        run(phones, scripted_runners(built, tmp_path / "bin"), tiny.plan(tmp_path / "plan"))
    assert [path.name for path in (phones.storage / "x").rglob("*") if path.is_file()] == ["lock"]


@pytest.mark.once  # android_harness/tests has each in C++
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("kill -SEGV $$", "was ended by signal 11"),
        ("exec sleep 600", "gave no answer within 1 s and was killed"),
        ('printf \'{"run_id":"2026\'', "wrote no round, or half of one"),
        ("exit 3", "ended with exit code 3"),
    ],
    ids=["crashes", "hangs", "writes half", "gives up"],
)
def test_a_runner_that_goes_wrong_fails_its_cell(
    phones: Phones, built: Path, tmp_path: Path, script: str, reason: str
) -> None:
    runners = scripted_runners(built, tmp_path / "bin", script)
    (cell,) = run(phones, runners, tiny.plan(tmp_path / "plan"), turn_seconds=1).cells
    assert cell.status == "failed"
    assert cell.error.startswith(f"mobileclip-bench-onnxruntime {reason}")
    assert phones.running() == []


def test_a_phone_without_the_mode_that_was_asked_for_and_a_hot_one_are_not_measured(
    phones: Phones, built: Path, tmp_path: Path
) -> None:
    plan = tiny.plan(tmp_path / "plan")
    phones.program("cmd", 'echo "cmd: Can\'t find service: power" >&2; exit 20')
    with pytest.raises(RuntimeFailed, match="has no fixed performance mode: unset MOBILECLIP_ANDROID_FIXED_PERF"):
        run(phones, built / "bin", plan, fixed_performance=True)
    phones.set_thermal_status(3)
    with pytest.raises(RuntimeFailed, match=r"still hot after 0 s \(thermal state serious, 36 °C\)"):
        run(phones, built / "bin", plan, cooling_seconds=0)
    assert phones.running() == []


def test_a_warm_phone_is_waited_for_before_each_round_and_inferences_keep_their_pace(
    phones: Phones, built: Path, tmp_path: Path
) -> None:
    phones.set_thermal_status(1)
    plan = tiny.plan(tmp_path / "plan", rules={"cool_seconds": 0.2, "pace_milliseconds": 100})
    began = time.monotonic()
    result = run(phones, built / "bin", plan, cooling_seconds=0)
    assert [(one.status, one.thermal_state) for one in result.cells[0].rounds] == [("done", "fair")] * 2
    assert [0.2 <= one.cooled_seconds < 10 for one in result.cells[0].rounds] == [True, True]
    assert time.monotonic() - began > 2 * (0.2 + 0.2)  # and of three inferences the third begins after 0.2 s


def test_a_harness_for_another_machine_is_refused_before_anything_is_pushed_and_one_that_does_not_start_is_told(
    phones: Phones, built: Path, tmp_path: Path
) -> None:
    runners, plan = scripted_runners(built, tmp_path / "bin"), tiny.plan(tmp_path / "plan")
    ours = (runners / "mobileclip-bench").read_bytes()
    (runners / "mobileclip-bench").write_bytes(ours[:18] + b"\xb7\x00" + ours[20:])
    with pytest.raises(RuntimeFailed, match=r"built for aarch64 and the phone .* is x86_64"):
        run(phones, runners, plan)
    assert list(phones.storage.iterdir()) == []
    (runners / "mobileclip-bench").write_bytes(ours)
    (runners / "mobileclip-bench-onnxruntime").write_text("#!/no/such/linker\n")
    with pytest.raises(RuntimeFailed, match=r"does not start on the phone .*build it with the NDK for arm64-v8a"):
        run(phones, runners, plan)


def test_what_a_phone_does_not_run_is_refused_with_the_reason() -> None:
    with pytest.raises(NotRun, match="coreml does not run on Android phones: export onnx or executorch or litert"):
        AndroidDriver().places("coreml", {})
    with pytest.raises(NotRun, match="only xnnpack is in the Android harness, not vulkan"):
        AndroidDriver().places("executorch", {"backend": "vulkan"})
    assert [place.label for place in AndroidDriver().places("onnx", {})] == ["onnxruntime-cpu"]


def test_further_places_are_named_and_one_that_the_runtime_lacks_fails_its_cell(
    phones: Phones, built: Path, tmp_path: Path
) -> None:
    chosen = AndroidSettings.of({"MOBILECLIP_ANDROID_PLACES": "onnxruntime-xnnpack, onnxruntime-webgpu"})
    found = AndroidDriver(settings=chosen).places("onnx", {})
    assert [place.label for place in found] == ["onnxruntime-cpu", "onnxruntime-xnnpack", "onnxruntime-webgpu"]
    with pytest.raises(
        UsageError,
        match="is not available on Android phones; known: executorch-xnnpack, litert-cpu, litert-gpu, onnxruntime-cpu",
    ):
        AndroidDriver(settings=AndroidSettings(places=("onnxruntime-qnn",))).places("executorch", {})
    result = run(phones, built / "bin", tiny.plan(tmp_path / "plan", backends=("cpu", "xnnpack", "webgpu")))
    assert [cell.status for cell in result.cells] == ["done", "failed", "failed"]
    assert [str(cell.error).partition(":")[0] for cell in result.cells[1:]] == ["ONNX Runtime"] * 2


@pytest.mark.slow
def test_of_two_benchmarks_that_begin_together_the_second_touches_nothing(
    phones: Phones, built: Path, tmp_path: Path
) -> None:
    runners = scripted_runners(built, tmp_path / "bin")
    first, second = (tiny.plan(tmp_path / name, other=other) for name, other in (("first", 0), ("second", 1)))
    seen: list[str] = []

    def begun(text: str) -> None:
        """The second one comes while the first one pushes its harness, and again when it has pushed its models."""
        if not text.endswith(("pushing the harness", "pushing models")):
            return
        before, asked = _changes(phones), phones.asked()
        with pytest.raises(RuntimeFailed, match=r"another benchmark runs on the phone .*: wait for its end"):
            run(phones, runners, second)
        assert (_changes(phones), phones.asked()) == (before, asked)
        seen.append(text)

    (cell,) = assemble(driver(phones, runners).run(first, begun)).cells
    assert (cell.status, len(seen)) == ("done", 2)
    assert run(phones, runners, second).cells[0].status == "done"


@pytest.mark.slow
def test_a_phone_without_flock_is_measured_all_the_same(phones: Phones, built: Path, tmp_path: Path) -> None:
    phones.program("flock", "exit 127")
    result = run(phones, scripted_runners(built, tmp_path / "bin"), tiny.plan(tmp_path / "plan"))
    assert result.cells[0].status == "done"


@pytest.mark.slow
@pytest.mark.parametrize("phones", [{"count": 2}], indirect=True, ids=["two"])
def test_two_phones_are_measured_at_once(phones: Phones, built: Path, tmp_path: Path) -> None:
    both = " && ".join(f'[ -e "$1/../../{number}/begun" ]' for number in (1, 2))  # the folders of `driver`
    script = f'touch "$1/../begun"; until {both}; do sleep 0.05; done\n'
    runners = scripted_runners(built, tmp_path / "bin", script + GOOD)
    names = [listing.name for listing in AndroidDriver().discover()]
    assert names == [f"Stand-in Phone {number}, Android 16, x86_64 (simulated)" for number in (1, 2)]
    with pytest.raises(RuntimeFailed, match="2 Android phones are connected"):
        driver(phones, runners).run(tiny.plan(tmp_path / "unclear"), silent)
    results: dict[int, Result] = {}

    def measure(number: int) -> None:
        one = driver(phones, runners, phones.serial(number))
        results[number] = assemble(one.run(tiny.plan(tmp_path / f"plan {number}"), silent))

    threads = [threading.Thread(target=measure, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[number].device.model for number in (0, 1)] == ["Phone 1", "Phone 2"]
    assert all(cell.status == "done" for result in results.values() for cell in result.cells)


@pytest.mark.parametrize(("name", "seconds"), [("standard", 200), ("mlperf", 2788)])
def test_how_long_a_round_may_take(name: str, seconds: float) -> None:
    assert AndroidSettings().turn_limit(get_protocol(name)) == seconds
    assert AndroidSettings.of({"MOBILECLIP_ANDROID_TURN_SECONDS": "7"}).turn_limit(get_protocol(name)) == 7
    job = documents.job()  # four rounds
    assert AndroidSettings(turn_seconds=7).total_limit(job) == 7 * (4 + 1)
    assert AndroidSettings.of({}).cooling_seconds == 600


def test_operator_times_are_refused_on_phones(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="operator times are not recorded on Android phones: leave `profile` out"):
        AndroidDriver().run(Plan(tmp_path, None, profile=True), silent)  # type: ignore[arg-type]
