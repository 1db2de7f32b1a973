"""Rented phones: a measurement by gcloud, and each fault as one line."""

from pathlib import Path

import pytest
from benchmark.android import tiny
from benchmark.ddp.standin import PROJECT, Cloud
from pydantic import ValidationError

from mobileclip_deploy.base.progress import silent
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.ddp import driver as ddp
from mobileclip_deploy.benchmark.ddp.driver import DdpDriver
from mobileclip_deploy.benchmark.driver import Driver, get_driver
from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.plan import SESSION, Plan
from mobileclip_deploy.benchmark.result import Device, Run
from mobileclip_deploy.errors import MobileClipDeployError, RuntimeFailed

pytestmark = pytest.mark.usefixtures("programs")


def phone(selector: str = "caiman-35") -> Driver:
    (driver,) = get_driver(f"ddp:{selector}").each()
    return driver


def measured(plan: Plan, selector: str = "caiman-35") -> Run:
    return phone(selector).run(plan, silent)


def test_a_rented_phone_is_measured_and_judged_here(cloud: Cloud, tmp_path: Path) -> None:
    plan = tiny.plan(tmp_path / "plan")
    notices: list[str] = []
    driver = phone()
    driver.announce = notices.append
    run = driver.run(plan, silent)
    assert (run.device.kind, run.device.model, run.device.simulated) == ("ddp", "Pixel 9 Pro", True)
    assert run.device.rental is not None
    assert run.device.rental.model_dump() == {
        "provider": "Google Developer Device Platform",
        "model": "caiman-35",
        "date": "2026-12-01",
        "session": "session-00000001",
    }
    result = assemble(run)
    assert [(cell.status, cell.golden and cell.golden.passed) for cell in result.cells] == [("done", True)]
    assert any(text.startswith("SIMULATED") for text in run_warnings(result))
    assert any(text.startswith("rented: caiman-35 of Google") for text in run_warnings(result))
    (notice,) = notices
    assert notice.startswith("Renting caiman-35 (Pixel 9 Pro, Android API 35) for at most 1")
    written = [path.read_bytes() for path in plan.folder.rglob("*") if path.is_file()]
    assert written
    assert not any(b"SECRET-SERIAL" in content for content in written)
    assert notice.endswith(f"bills to {PROJECT}: https://docs.cloud.google.com/developer-device-platform/pricing")


def test_the_job_has_no_answers_one_attempt_and_a_short_label(cloud: Cloud, tmp_path: Path) -> None:
    plan = tiny.plan(tmp_path / "plan")
    measured(plan)
    (job,) = cloud.jobs
    assert job["attempts"] == 1
    assert job["labels"]["tool"] == "mobileclip-deploy"
    assert len(job["labels"]["job"].encode()) <= 63
    names = {destination.removeprefix(f"{ddp.FOLDER}/") for destination in job["pushed"].values()}
    assert {"run.sh", "bin/mobileclip-bench", "job/job.json", "job/golden/inputs.bin"} <= names
    (answers,) = plan.expected.values()
    stored = {path: path.stat() for path in (cloud.bucket / "mobileclip-deploy").rglob("*") if path.is_file()}
    assert len(stored) == len(names) + 1
    assert not any(answers[:1].tobytes() in path.read_bytes() for path in stored)
    measured(tiny.plan(tmp_path / "again"))
    assert all(path.stat().st_mtime_ns == stat.st_mtime_ns for path, stat in stored.items())  # the bucket has them


def test_a_name_with_other_letters_is_taken_by_the_service(cloud: Cloud, tmp_path: Path) -> None:
    assert measured(tiny.plan(tmp_path / "plan"), "tablet.arm-34").device.simulated


def test_a_lost_link_is_waited_for(cloud: Cloud, tmp_path: Path) -> None:
    cloud.unreachable = 4
    assert measured(tiny.plan(tmp_path / "plan")).rounds
    cloud.unreachable = 5
    plan = tiny.plan(tmp_path / "other")
    with pytest.raises(RuntimeFailed, match=r"UNAVAILABLE.*, 5 times in a row; go on with `resume=True`"):
        measured(plan)
    assert len(cloud.sessions) == 2
    assert measured(plan).rounds  # of the same session
    assert len(cloud.sessions) == 2


FAULTS = {
    "quota": r"the quota of the project our-phones is used up \(.*Quota exceeded.*\); wait, or raise it: https",
    "disabled": r"the project our-phones has no Device Run API; type: gcloud services enable devicerun",
    "billing": r"the project our-phones has no billing account, and rented phones cost money; link one: https",
    "forbidden": r"this account may not do that in the project our-phones .*; its owner has to grant the roles",
    "timed_out": r"session-00000001 on caiman-35 reached its time limit of \d+ minutes; measure fewer bundles",
    "error": r"on caiman-35 has no result \(The device was lost during the run\.\): the phone is gone; run again",
    "cancelled": r"the session session-00000001 on caiman-35 was cancelled; run again",
    "twice": r"Google ran the job of caiman-35 2 times, as after a fault of its own, and runs are not mixed; run again",
    "partial": r"session-00000001 sent no 20261124T180000Z-android-0011\.run\.json \(partial pull\); run again",
    "truncated": r"the session session-00000001 sent a damaged run; run again",
    "other_job": r"the session session-00000001 ran another job than this one; run again",
    "other_model": r"caiman-35 is to be caiman with API 35, and the phone was .*Stand-in \(shiba with API 35\)",
    "no_properties": r"caiman-35 is to be caiman with API 35, and the phone was .*unknown \(unknown with API unknown\)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line_and_leaves_nothing_to_resume(fault: str, cloud: Cloud, tmp_path: Path) -> None:
    plan = tiny.plan(tmp_path / "plan")
    cloud.fault = fault
    with pytest.raises(MobileClipDeployError, match=FAULTS[fault]) as raised:
        measured(plan)
    assert "\n" not in str(raised.value)
    assert not (plan.folder / SESSION).exists()
    assert not plan.stream.exists()


def test_a_program_that_fails_on_the_phone_is_quoted(cloud: Cloud, programs: Path, tmp_path: Path) -> None:
    (programs / "libstdc++_s.so").unlink()
    with pytest.raises(RuntimeFailed, match=r"failed on the phone \(.*libstdc\+\+_s\.so.*\); run again"):
        measured(tiny.plan(tmp_path / "plan"))


def test_a_phone_without_properties_of_its_own_is_never_a_real_one(cloud: Cloud, tmp_path: Path) -> None:
    device = measured(tiny.plan(tmp_path / "plan")).device
    real = dict(device) | {"simulated": False}
    assert not Device.model_validate(real).simulated
    for change in (
        {"build": None},
        {"model": "unknown"},
        {"os_version": "unknown"},
        {"rental": None},
        {"kind": "host"},
    ):
        with pytest.raises(ValidationError):
            Device.model_validate(real | change)


def test_polling_has_an_end(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddp, "QUEUE_SECONDS", -100_000)
    plan = tiny.plan(tmp_path / "plan")
    cloud.fault = "slow"
    with pytest.raises(RuntimeFailed, match=r"caiman-35 has no result after 0 minutes; go on with `resume=True`"):
        measured(plan)
    assert (plan.folder / SESSION).exists()


def test_phones_for_rent_are_listed_and_without_gcloud_how_to_get_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = {row.device: (row.name, row.state) for row in DdpDriver().discover()}
    assert listings == {
        "ddp:caiman-35": ("Pixel 9 Pro, Android API 35", "for rent"),
        "ddp:pa3q-35": ("Galaxy S25 Ultra, Android API 35", "for rent"),
        "ddp:tablet.arm-34": ("Small Tablet, Android API 34", "for rent, virtual"),
    }
    monkeypatch.setenv("PATH", "/nonexistent")
    (listing,) = DdpDriver().discover()
    remedy = "gcloud is not installed; install it: https://cloud.google.com/sdk/docs/install"
    assert (listing.state, listing.remedy) == ("out of reach", remedy)
    with pytest.raises(RuntimeFailed, match="gcloud is not installed; install it"):
        get_driver("ddp:caiman-35").each()


def test_no_bucket_and_unknown_phones_are_refused_before_anything_is_paid(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for selector, said in (
        ("caimen-35", r"there is no rented phone caimen-35; did you mean caiman-35|no rented phone caimen-35"),
        ("gone-30", r"gone-30 cannot be rented here \(EULA_NOT_ACCEPTED\)"),
        ("iphone16pro-18-3", r"cannot be rented here \(it is not an Android phone\)"),
        ("caiman-35,caiman-35", r"name each rented phone once"),
    ):
        with pytest.raises(MobileClipDeployError, match=said):
            get_driver(f"ddp:{selector}").each()
    monkeypatch.setenv("MOBILECLIP_DDP_BUCKET", "not-there")
    with pytest.raises(RuntimeFailed, match=r"there is no bucket gs://not-there; type: gcloud storage buckets create"):
        measured(tiny.plan(tmp_path / "plan"))
    assert cloud.sessions == {}
