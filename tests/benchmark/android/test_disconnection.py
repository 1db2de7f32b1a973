"""Cables that are pulled, at every step, and storage that is full: no finished round is lost, nothing goes on."""

import os
from pathlib import Path

import pytest
from benchmark.android import tiny
from benchmark.android.scripted import GOOD, scripted_runners
from benchmark.android.standin import Phones, when

from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.android.adb import Adb, DeviceLost
from mobileclip_deploy.benchmark.android.driver import AndroidDriver
from mobileclip_deploy.benchmark.android.programs import InstalledPrograms
from mobileclip_deploy.benchmark.android.session import PhoneSession
from mobileclip_deploy.benchmark.android.settings import AndroidSettings
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.documents import read_stream
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import RuntimeFailed

pytestmark = pytest.mark.slow  # test_driver.py measures

WAITS_AFTER_THE_FIRST = 'if [ "$3" != 0 ] && [ ! -e "$1/../go" ]; then touch "$1/../waits"; sleep 600; fi\n' + GOOD


def run(phones: Phones, runners: Path, plan: Plan, reconnect_seconds: float = 0) -> Result:
    settings = AndroidSettings(folder=f"{phones.storage}/x", runners=runners, reconnect_seconds=reconnect_seconds)
    return assemble(AndroidDriver(settings=settings).run(plan, silent))


def test_a_cable_pulled_before_any_step_is_one_line_and_the_run_goes_on_afterwards(
    phones: Phones, built: Path, tmp_path: Path
) -> None:
    """Every third step: a step is one of a few commands of adb."""
    runners = scripted_runners(built, tmp_path / "bin")
    run(phones, runners, tiny.plan(tmp_path / "harness and model"))
    phones.disconnect_at_call(10_000)
    run(phones, runners, tiny.plan(tmp_path / "undisturbed", other=1))
    steps = phones.calls()
    assert steps > 20
    for step in range(0, steps, 3):
        plan = tiny.plan(tmp_path / f"plan {step}", other=step + 1)
        phones.disconnect_at_call(step)
        with pytest.raises(RuntimeFailed) as caught:
            run(phones, runners, plan)
        assert "\n" not in str(caught.value)
        assert "plug" in str(caught.value), f"step {step}: {caught.value}"
        phones.connect()
        if step % 5 == 0:
            assert run(phones, runners, plan).cells[0].status == "done"
    assert phones.running() == []


def test_a_cable_pulled_during_a_push_leaves_no_half_file_in_use(phones: Phones, built: Path, tmp_path: Path) -> None:
    runners = scripted_runners(built, tmp_path / "bin")
    plan = tiny.plan(tmp_path / "plan")
    (plan.folder / "models/tiny/tiny.onnx.data").write_bytes(os.urandom(64_000_000))
    pushed = phones.storage / "x/job/models/tiny/tiny.onnx.data"
    incoming = phones.storage / "x/job/.incoming"
    puller = when(lambda: any(part.stat().st_size > 1_000_000 for part in incoming.glob("*")), phones.disconnect)
    with pytest.raises(DeviceLost, match="replug it and"):
        run(phones, runners, plan)
    puller.join()
    assert not pushed.exists()
    phones.connect()
    assert run(phones, runners, plan).cells[0].status == "done"
    assert pushed.stat().st_size == 64_000_000
    assert not incoming.exists()


def test_a_cable_pulled_during_a_run_loses_no_finished_round(phones: Phones, built: Path, tmp_path: Path) -> None:
    runners = scripted_runners(built, tmp_path / "bin", WAITS_AFTER_THE_FIRST)
    plan = tiny.plan(tmp_path / "plan", rounds=3)
    # The first round is here, the second one has begun.
    puller = when(lambda: (phones.storage / "x/waits").exists() and plan.stream.exists(), phones.disconnect)
    with pytest.raises(DeviceLost, match="finished rounds are kept: go on with `resume=True`"):
        run(phones, runners, plan)
    puller.join()
    assert [item.round for item in read_stream(plan.stream, plan.job)] == [0]
    assert phones.running() != []  # the phone goes on by itself, as far as its own time limit
    phones.connect()
    (phones.storage / "x/waits").unlink()
    again = when((phones.storage / "x/waits").exists, phones.disconnect)
    back = when(lambda: not again.is_alive(), lambda: ((phones.storage / "x/go").touch(), phones.connect()))
    result = run(phones, runners, plan, reconnect_seconds=60)  # waits for the phone, and goes on by itself
    again.join()
    back.join()
    assert result.cells[0].status == "done"
    assert [item.round for item in result.cells[0].rounds] == [0, 1, 2]
    assert phones.running() == []


def test_the_phone_itself_ends_a_run_that_takes_too_long(phones: Phones, built: Path, tmp_path: Path) -> None:
    runners = scripted_runners(built, tmp_path / "bin", 'test "$3" = 0 || sleep 600\n' + GOOD)
    plan = tiny.plan(tmp_path / "plan")
    run(phones, scripted_runners(built, tmp_path / "good"), tiny.plan(tmp_path / "before"))
    folder = f"{phones.storage}/x"
    adb = Adb(phones.serial(), folder)
    adb.push(plan.folder / "job.json", f"{folder}/job/job.json")
    adb.push(runners / "mobileclip-bench-onnxruntime", f"{folder}/bin/mobileclip-bench-onnxruntime")
    lines: list[str] = []
    programs = InstalledPrograms(folder, adb=adb)
    session = PhoneSession(programs, {}, 600.0, 2.0, fixed_performance=False, simulated=True)
    with pytest.raises(RuntimeFailed, match="ended the run after 2 s: go on with `resume=True`"):
        session.run(lines.append)
    assert len(lines) == 1
    assert phones.running() == []


def test_an_interrupted_driver_leaves_nothing_running(phones: Phones, built: Path, tmp_path: Path) -> None:
    runners = scripted_runners(built, tmp_path / "bin", GOOD)
    plan = tiny.plan(tmp_path / "plan")

    def interrupted(text: str) -> None:
        if text.startswith("1 of 2 rounds"):
            raise KeyboardInterrupt

    driver = AndroidDriver(settings=AndroidSettings(folder=f"{phones.storage}/x", runners=runners))
    with pytest.raises(KeyboardInterrupt):
        driver.run(plan, interrupted)
    assert phones.running() == []
    assert run(phones, runners, plan).cells[0].status == "done"


small = pytest.mark.parametrize("phones", [{"storage_megabytes": 16}], indirect=True, ids=["16 MB"])


@small
def test_storage_that_is_full_during_a_push_is_told(phones: Phones, built: Path, tmp_path: Path) -> None:
    runners = scripted_runners(built, tmp_path / "bin")
    (runners / "libonnxruntime.so").write_bytes(os.urandom(20_000_000))
    with pytest.raises(RuntimeFailed, match=r"the phone .* is full: make room on it, then run again"):
        run(phones, runners, tiny.plan(tmp_path / "plan"))
    storage = phones.inside(f"ls -A '{phones.folder}'/it*/x/bin")
    assert "libonnxruntime" not in storage


@small
def test_storage_that_fills_up_during_a_run_keeps_what_was_finished(
    phones: Phones, built: Path, tmp_path: Path
) -> None:
    fill = '[ "$3" = 1 ] && head -c 20000000 /dev/zero >"$1/../bin/fill" 2>/dev/null\n'
    long = GOOD.replace("[1000,2000,3000]", "[%s]").replace('"$3"', '"$3" "$(seq -s, 1 5000)"')
    runners = scripted_runners(built, tmp_path / "bin", fill + long)
    plan = tiny.plan(tmp_path / "plan", rounds=3)
    with pytest.raises(RuntimeFailed, match="make room on the device; then go on with `resume=True`"):
        run(phones, runners, plan)
    assert [item.round for item in read_stream(plan.stream, plan.job)] == [0]
    runners = scripted_runners(built, tmp_path / "better")
    assert run(phones, runners, plan).cells[0].status == "done"
