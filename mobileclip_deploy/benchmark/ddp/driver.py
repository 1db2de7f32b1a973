"""Driver of phones that Google rents by the minute. Each phone has a session of one job and one attempt.

A session is started by `start`, for all phones of a call before the first is waited for. `session.json` in the plan's
folder names it, so that `resume` fetches its result instead of paying for another.
"""

import copy
import re
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from mobileclip_deploy.base.files import file_sha256, read_model
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.device import FACTS, PROPERTY, described
from mobileclip_deploy.benchmark.android.driver import refuse_profile
from mobileclip_deploy.benchmark.android.session import write_job_folder
from mobileclip_deploy.benchmark.android.settings import AndroidSettings, find_runners
from mobileclip_deploy.benchmark.bounded import SAID_BYTES, one_line, parsing_device_output
from mobileclip_deploy.benchmark.ddp.gcloud import Gcloud
from mobileclip_deploy.benchmark.ddp.service import (
    LEAST_SECONDS,
    MOST_PUSHED,
    MOST_SECONDS,
    NAME_BYTES,
    PRICES,
    PROVIDER,
    CatalogDevice,
    JobReport,
    Session,
    Started,
    Submission,
    Unreachable,
)
from mobileclip_deploy.benchmark.documents import parse_document, write_document
from mobileclip_deploy.benchmark.driver import Driver, Listing
from mobileclip_deploy.benchmark.plan import SESSION, Plan
from mobileclip_deploy.benchmark.result import Device, Rental, Run
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed, UsageError, reraising, suggestion
from mobileclip_deploy.targets.values import RuntimePlace

FOLDER = "/data/local/tmp/mobileclip-ddp"
SCRIPT = Path(__file__).with_name("rented.sh")
POLL_SECONDS = 15.0
QUEUE_SECONDS = 3600
"""Longest wait above a session's time limit, for a phone that is in use, and for pushing and pulling."""
ENDING_SECONDS = 60
"""Seconds between the script's time limit and the service's, so that the script can write its results."""
MOST_FAILURES = 5
ABIS = {"aarch64": "arm64-v8a", "x86_64": "x86_64"}
ENDINGS = {
    "TIMED_OUT": "reached its time limit of {minutes:.0f} minutes; measure fewer bundles, or with `quick=True`",
    "CANCELLED": "was cancelled; run again",
    "FAILED": "failed on the phone ({reason}); run again",
}


class SessionFailed(RuntimeFailed):
    """Error of a session that has ended without a measurement: there is nothing to resume."""


class DdpDriver(Driver):
    """Driver of the phones whose identifiers in the catalog the selector names, with commas."""

    kind = "ddp"
    devices = "rented Android phones"
    places_of = "android"
    takes_runners = True

    def __init__(self, selector: str | None = None) -> None:
        super().__init__(selector)
        self._settings = AndroidSettings.of()
        self._service: Gcloud | None = None
        self._device: CatalogDevice

    def each(self) -> tuple[Driver, ...]:
        names = [name.strip() for name in (self.selector or "").split(",")]
        if not all(names) or len(set(names)) < len(names):
            raise UsageError(
                "name each rented phone once, as in `device='ddp:caiman-35,pa3q-35'`; `devices` lists them"
            )
        catalog = {device.id: device for device in self._connected().devices()}
        for name in names:
            if name not in catalog:
                raise UsageError(f"there is no rented phone {name}{suggestion(name, catalog)}; `devices` lists them")
            if not catalog[name].is_usable:
                denied = ", ".join(catalog[name].denied) or "it is not an Android phone"
                raise UsageError(f"{name} cannot be rented here ({one_line(denied, 200)}); `devices` lists the others")
        drivers = [copy.copy(self) for _ in names]
        for driver, name in zip(drivers, names, strict=True):
            driver.selector, driver._device = name, catalog[name]
        return tuple(drivers)

    def places(self, target: str, options: dict[str, str]) -> tuple[RuntimePlace, ...]:
        return self._named_places(target, options, "MOBILECLIP_ANDROID_PLACES", self._settings.places)

    def discover(self) -> tuple[Listing, ...]:
        try:
            catalog = [device for device in self._connected().devices() if device.is_usable]
        except (RuntimeFailed, UsageError) as reason:
            return (Listing("ddp", self.devices, "out of reach", reason.line),)
        return tuple(
            Listing(f"ddp:{d.id}", d.title, f"for rent{', virtual' if d.hardware_type != 'PHYSICAL' else ''}")
            for d in sorted(catalog, key=lambda device: device.id)
        )

    def start(self, plan: Plan, progress: Progress) -> None:
        refuse_profile(plan)
        if (plan.folder / SESSION).exists():
            return
        service, device = self._connected(), self._device
        runners = find_runners(self.runners or self._settings.runners, plan.proven, progress, self.runtime_versions)
        if ABIS[runners.machine] not in device.abis:
            abis = ", ".join(device.abis) or "no known machine"
            raise RuntimeFailed(
                f"the programs are for {runners.machine}, and {device.id} for {abis}; take another phone"
            )
        # As of a phone by cable, within the limits of the service.
        limit = self._settings.total_limit(plan.job) + self._settings.cooling_seconds + ENDING_SECONDS
        seconds = int(min(max(limit, LEAST_SECONDS + ENDING_SECONDS), MOST_SECONDS))
        self.announce(
            f"Renting {device.id} ({device.title}) for at most {seconds / 60:.0f} minutes, which Google bills to "
            f"{service.project}: {PRICES}"
        )
        with temporary_folder() as place:
            cooling = min(self._settings.cooling_seconds, seconds / 3)
            folder = write_job_folder(plan, runners, self._settings, place, seconds - ENDING_SECONDS - cooling)
            script = SCRIPT.read_text(encoding="utf-8").replace("@FACTS@", FACTS).replace("@COOLING@", f"{cooling:.0f}")
            (place / SCRIPT.name).write_text(script, encoding="utf-8", newline="\n")
            files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
            if len(files) > MOST_PUSHED:
                raise UsageError(
                    f"this job has {len(files)} files, and a rented phone takes {MOST_PUSHED}; measure fewer bundles "
                    "in a call"
                )
            objects = {name: _object(name, path) for name, path in files.items()}
            executable = _object(SCRIPT.name, place / SCRIPT.name)
            progress(f"uploading {len(files)} files to gs://{service.bucket}")
            uploads = {objects[name]: path for name, path in files.items()}
            service.upload(uploads | {executable: place / SCRIPT.name})
        submission = Submission(
            name=re.sub(r"[^A-Za-z0-9-]", "-", f"{device.id}-{plan.job.run_id}")[:NAME_BYTES],
            device=device.id,
            executable=executable,
            arguments=(FOLDER,),
            pushed={f"{FOLDER}/{name}": stored for name, stored in objects.items()},
            pulled=(f"{FOLDER}/results",),
            seconds=seconds,
        )
        progress(f"starting a session on {device.id}")
        write_document(plan.folder / SESSION, service.submit(submission))

    def run(self, plan: Plan, progress: Progress) -> Run:
        self.start(plan, progress)
        started = read_model(Started, plan.folder / SESSION)
        if started.device != self.selector:
            raise UsageError(
                f"the session {started.session} is of {started.device}; write `device='ddp:{started.device}'`"
            )
        try:
            session = self._wait(started, progress)
        except KeyboardInterrupt as stopped:
            stopped.add_note(
                f"the session {started.session} goes on and is billed: end it with gcloud beta device-run sessions "
                f"cancel {started.session}, or fetch its result with `resume=True`"
            )
            raise
        progress(f"fetching results of {started.device}")
        try:
            return self._collect(plan, started, session)
        except SessionFailed:
            (plan.folder / SESSION).unlink()
            raise

    def _connected(self) -> Gcloud:
        if self._service is None:
            self._service = Gcloud()
        return self._service

    def _wait(self, started: Started, progress: Progress) -> Session:
        service, started_at, failures = self._connected(), time.monotonic(), 0
        go_on = f"go on with `resume=True`, which fetches the session {started.session}"
        while True:
            try:
                if (session := service.report(started)) is not None:
                    return session
                failures = 0
            except Unreachable as error:
                failures += 1
                if failures >= MOST_FAILURES:
                    raise RuntimeFailed(
                        f"{error.line.rpartition('; ')[0]}, {failures} times in a row; {go_on}"
                    ) from error
            waited = time.monotonic() - started_at
            if waited > started.seconds + QUEUE_SECONDS:
                raise RuntimeFailed(f"{started.device} has no result after {waited / 60:.0f} minutes; {go_on}")
            progress(f"{started.device}: session {started.session}, {waited / 60:.0f} minutes")
            time.sleep(POLL_SECONDS)

    def _collect(self, plan: Plan, started: Started, session: Session) -> Run:
        """Fetches the results of an ended session, and judges them here."""
        service, device = self._connected(), self._device
        report = _single_job(session, started)
        results = {
            file.path.rpartition(f"{FOLDER}/results/")[2]: file.path
            for file in report.executions[0].output_files
            if file.path.startswith(f"gs://{service.bucket}/") and f"{FOLDER}/results/" in file.path
        }
        if report.result != "PASSED":
            raise _unmeasured(report, started, self._last_line(results))
        texts = {}
        for name in ("properties.txt", "facts.txt", f"{plan.job.run_id}.run.json"):
            if name not in results:
                raise SessionFailed(f"the session {started.session} sent no {name} (partial pull); run again")
            limit = plan.most_bytes if name.endswith(".json") else SAID_BYTES
            texts[name] = service.download(results[name], limit).decode("utf-8", errors="replace")
        properties, facts, text = texts.values()
        with reraising(
            f"the session {started.session} sent a damaged run; run again", InvalidInput, into=SessionFailed
        ):
            run = parse_document(text, Run, f"{plan.job.run_id}.run.json")
        if run.job != plan.job:
            raise SessionFailed(f"the session {started.session} ran another job than this one; run again")
        measured = self._measured(device, started, properties, facts)
        if (run.device.kind, run.device.model) != ("android", measured.model):
            raise SessionFailed(f"{started.device} measured as {run.device.model}, and is {measured.model}; run again")
        simulated = measured.simulated or run.device.simulated or device.hardware_type != "PHYSICAL"
        rental = Rental(provider=PROVIDER, model=device.id, date=report.start_time[:10], session=started.session)
        message = f"the session {started.session} sent no properties of a phone; run again"
        with reraising(message, ValidationError, into=SessionFailed):
            rented = with_fields(measured, kind="ddp", simulated=simulated, rental=rental)
        for finished in run.rounds:
            plan.keep(finished)
        return plan.record(rented, run.harness, run.runtimes, run.environment)

    def _measured(self, device: CatalogDevice, started: Started, text: str, facts: str) -> Device:
        """Returns the phone's description by its properties, which have to be those of the rented model."""
        properties = dict(PROPERTY.findall(text))
        with parsing_device_output(f"the phone {started.device}"):
            phone = described(text, facts).device
        codes = one_line(properties.get("ro.product.device", "")), one_line(properties.get("ro.build.version.sdk", ""))
        if codes != (device.model_code, device.os_version):
            raise SessionFailed(
                f"{started.device} is to be {device.model_code} with API {device.os_version}, and the phone was "
                f"{phone.model} ({codes[0] or 'unknown'} with API {codes[1] or 'unknown'}); run again"
            )
        return phone

    def _last_line(self, results: Mapping[str, str]) -> str:
        if "log.txt" not in results:
            return ""
        lines = self._connected().download(results["log.txt"], SAID_BYTES).decode(errors="replace").split("\n")
        printed = [line for line in lines if line.strip() and not line.startswith("mobileclip-shell-ended")]
        return one_line(printed[-1], 200) if printed else ""


def _object(name: str, path: Path) -> str:
    """Returns a name in the bucket that no other content, and no other place on the phone, has."""
    return f"mobileclip-deploy/{file_sha256(path)}/{name}"


def _single_job(session: Session, started: Started) -> JobReport:
    if len(session.jobs) != 1:
        raise SessionFailed(f"the session {started.session} has {len(session.jobs)} jobs, and not one; run again")
    report = session.jobs[0]
    if len(report.executions) > 1:
        raise SessionFailed(
            f"Google ran the job of {started.device} {len(report.executions)} times, as after a fault of its own, and "
            "runs are not mixed; run again"
        )
    if not report.executions:
        raise _unmeasured(report, started, "")
    return report


def _unmeasured(report: JobReport, started: Started, last_line: str) -> SessionFailed:
    reason = one_line(last_line or report.reason or "no reason given", 300)
    ending = ENDINGS.get(report.result, "has no result ({reason}): the phone is gone; run again, or on another phone")
    text = ending.format(reason=reason, minutes=started.seconds / 60)
    return SessionFailed(f"the session {started.session} on {started.device} {text}")
