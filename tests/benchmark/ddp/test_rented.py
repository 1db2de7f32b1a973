"""Rented phones: a measurement by REST, its secrets, and each fault as one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark.android import tiny
from benchmark.ddp.standin import ACCESS, PROJECT, REFRESH, SECRET, Cloud
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
    assert notice.endswith(f"bills to {PROJECT}: https://docs.cloud.google.com/developer-device-platform/pricing")


def test_the_job_has_no_answers_one_attempt_and_a_short_name(cloud: Cloud, tmp_path: Path) -> None:
    plan = tiny.plan(tmp_path / "plan")
    measured(plan)
    (body,) = [json.loads(body) for method, path, body in cloud.requests if path.endswith("/sessions")]
    (job,) = body["sessionConfig"]["jobConfigs"]
    assert job["settings"]["retrySettings"]["flakyTestRetryStrategy"]["flakyTestAttempts"] == 1
    assert len(job["displayName"].encode()) <= 63
    pushed = job["allocationConfig"]["deviceConfigs"][0]["actions"][0]["androidPushFiles"]["fileConfigs"]
    names = {item["destinationPath"].removeprefix(f"{ddp.FOLDER}/") for item in pushed}
    assert {"run.sh", "bin/mobileclip-bench", "job/job.json", "job/golden/inputs.bin"} <= names
    (answers,) = plan.expected.values()
    inputs = cloud.bucket / "mobileclip-deploy"
    stored = [path for path in inputs.rglob("*") if path.is_file() and "sessions" not in path.parts]
    assert len(stored) == len(pushed) + 1
    assert not any(answers[:1].tobytes() in path.read_bytes() for path in stored)
    count = sum("/upload/" in path for _, path, _ in cloud.requests)
    measured(tiny.plan(tmp_path / "again"))
    assert sum("/upload/" in path for _, path, _ in cloud.requests) == count  # the bucket has them


def test_a_name_with_other_letters_is_taken_by_the_service(cloud: Cloud, tmp_path: Path) -> None:
    assert measured(tiny.plan(tmp_path / "plan"), "tablet.arm-34").device.simulated


def test_secrets_go_to_the_service_alone(
    cloud: Cloud, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    phone().run(tiny.plan(tmp_path / "plan"), lines.append)
    monkeypatch.setattr(cloud, "fault", "quota")
    with pytest.raises(RuntimeFailed) as refused:
        phone().run(tiny.plan(tmp_path / "other"), lines.append)
    shown = "".join([*lines, *capfd.readouterr(), str(refused.value), repr(vars(phone()))])
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "adc.json"]
    for secret in (REFRESH, SECRET, ACCESS):
        assert secret not in shown
        assert not any(secret.encode() in content for content in written)
    assert not any(b"SECRET-SERIAL" in content for content in written if b"case $1" not in content)


def test_an_expired_token_is_renewed_and_a_lost_link_is_waited_for(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, driver = tiny.plan(tmp_path / "plan"), phone()
    driver.start(plan, silent)
    cloud.token, cloud.unreachable = "ya29.another", 4
    assert driver.run(plan, silent).rounds
    cloud.unreachable = 5
    plan = tiny.plan(tmp_path / "other")
    with pytest.raises(RuntimeFailed, match=r"does not reply \(503\), 5 times in a row; go on with `resume=True`"):
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


def test_missing_and_foreign_credentials_are_a_line_each(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = {row.device: (row.name, row.state) for row in DdpDriver().discover()}
    assert listings == {
        "ddp:caiman-35": ("Pixel 9 Pro, Android API 35", "for rent"),
        "ddp:pa3q-35": ("Galaxy S25 Ultra, Android API 35", "for rent"),
        "ddp:tablet.arm-34": ("Small Tablet, Android API 34", "for rent, virtual"),
    }
    cloud.signed_in = False
    (listing,) = DdpDriver().discover()
    assert listing.state == "out of reach"
    assert listing.remedy == (
        "this computer is not signed in to Google Cloud; type: gcloud auth application-default login"
    )
    file = tmp_path / "key.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    user = "gcloud auth application-default"
    for content, said in (
        (None, f"this computer is not signed in to Google Cloud; type: {user} login"),
        (
            '{"type": "service_account", "private_key": "KEY"}',
            "credentials of the kind service_account, which gcloud",
        ),
        (
            '{"refresh_token": ["KEY"]}',
            f"has no credentials of a user; type: {user}",
        ),
        (
            '{"type": "authorized_user", "refresh_token": "KEY"}',
            f"no project of Google Cloud is chosen; type: {user}",
        ),
    ):
        if content:
            file.write_text(content)
        with pytest.raises(RuntimeFailed, match=said) as raised:
            get_driver("ddp:caiman-35").each()
        assert "KEY" not in str(raised.value)


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


def test_a_server_elsewhere_gets_no_token(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    monkeypatch.setenv("MOBILECLIP_DDP_SERVER", "https://example.com")
    with pytest.raises(MobileClipDeployError, match="is not a server of this computer; unset it"):
        get_driver("ddp:caiman-35").each()
