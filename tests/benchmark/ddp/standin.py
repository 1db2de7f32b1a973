"""A stand-in for Google's Device Run and its bucket, and a `gcloud` on PATH that alone reaches it, on loopback.

The limits are those of Google's own clients for the API `devicerun` v1alpha: `Schema$AndroidPushFilesDeviceAction` (at
most 50 files), `Schema$AndroidPullFilesDeviceAction` (at most 10 paths, best effort), `Schema$AndroidNativeBinary` (1
minute to 3 hours) and `Schema$CatalogDevice` in googleapis/google-api-nodejs-client,
src/apis/devicerun/v1alpha.ts. The command line is that of gcloud's
surface/device_run/sessions/submit/android_executable.py, sessions/describe.py and devices/list.py. The replies have the
form of a real session's (john-rocky/edge-llm-bench,
results/raw/2026-09-17-ddp-litert-lm-caiman-35/operation.json).

What it refuses, they refuse: an unknown device, too many files, a time limit out of range, a bucket or object that is
not there, a flag that gcloud does not have. A job is run here, by mksh, with a folder in the place of the phone's
/data/local/tmp. Its phones are not phones: without /system/bin/linker64 every result is marked simulated. They take
programs for x86-64 too, since those run here.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from benchmark.android.standin import ADDRESSES, ARM_PROGRAMS
from programs import script, serving

PROJECT, BUCKET = "our-phones", "our-phones-devicerun"


class Refused(Exception):
    """An error of the service: HTTP status, Google's status, message and reason."""

    def __init__(self, code: int, status: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
        self.body = {"error": {"code": code, "status": status, "message": message, "details": details}}


@dataclass
class Cloud:
    """State of the service, and the faults that a test plants.

    `fault`: quota, disabled, billing, forbidden (of a request); timed_out, error, cancelled, twice, partial, truncated,
    other_model, no_properties, other_job, slow (of a run). `only`: the phone with that fault. `unreachable`: number of
    polls that fail. `arm`: programs are for 64-bit ARM, and started by qemu in a namespace where the kernel does so.
    """

    folder: Path
    address: str = ""
    fault: str = ""
    only: str = ""
    arm: bool = False
    unreachable: int = 0
    jobs: list[dict[str, Any]] = field(default_factory=list)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    polls: dict[str, int] = field(default_factory=dict)

    @property
    def bucket(self) -> Path:
        return self.folder / "gs" / BUCKET

    def catalog(self) -> list[dict[str, Any]]:
        def entry(name: str, model: str, code: str, api: str, **more: Any) -> dict[str, Any]:
            return {
                "name": f"projects/{PROJECT}/locations/global/devices/{name}",
                "displayName": model,
                "modelCode": code,
                "osVersion": api,
                "platform": "ANDROID",
                "hardwareType": "PHYSICAL",
                "androidDetails": {"buildType": "user", "supportedAbis": ["arm64-v8a", "x86_64"]},
                "availability": {"capacity": "CAPACITY_HIGH"},
                "supportedProducts": [{"automation": {}}],
                "aFieldOfTomorrow": {"x": 1},
            } | more

        return [
            entry("caiman-35", "Pixel 9 Pro", "caiman", "35"),
            entry("pa3q-35", "Galaxy S25 Ultra", "pa3q", "35"),
            entry("tablet.arm-34", "Small Tablet", "tablet", "34", hardwareType="VIRTUAL"),
            entry("gone-30", "Pixel 5", "redfin", "30", accessDeniedReasons=["EULA_NOT_ACCEPTED"]),
            entry("iphone16pro-18-3", "iPhone 16 Pro", "iphone16pro", "18.3", platform="IOS", androidDetails={}),
        ]

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        """Starts a session: checks its job, and runs it to its end."""
        planted = {
            "quota": (429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Device minutes'"),
            "billing": (403, "PERMISSION_DENIED", "This API method requires billing to be enabled"),
            "forbidden": (403, "PERMISSION_DENIED", "Permission 'devicerun.sessions.create' denied"),
        }
        if self.fault in planted:
            raise Refused(*planted[self.fault])
        self._check_job(job)
        self.jobs.append(job)
        identifier, fault = f"session-{len(self.sessions) + 1:08x}", self.fault
        self.fault = fault if self.only in ("", job["device"]) else ""
        report = self._report(job, identifier)
        self.fault = fault
        name = f"projects/{PROJECT}/locations/global/sessions/{identifier}"
        ended = {"id": "b821197a", "jobReports": [report], "status": {"statusType": "DONE"}, "result": report["result"]}
        self.sessions[identifier] = {"name": name, "sessionReport": ended}
        return {"name": name}

    def session(self, identifier: str) -> dict[str, Any]:
        """The session, which has ended at its second poll."""
        if self.unreachable:
            self.unreachable -= 1
            raise Refused(503, "UNAVAILABLE", "The service is currently unavailable.")
        self.polls[identifier] = self.polls.get(identifier, 0) + 1
        if self.polls[identifier] > 1 and self.fault != "slow":
            return self.sessions[identifier]
        return {"name": self.sessions[identifier]["name"], "sessionReport": {"status": {"statusType": "RUNNING"}}}

    def stored(self, path: str) -> Path:
        match = re.fullmatch(r"gs://([^/]+)/(.+)", path)
        if match is None or match[1] != BUCKET or not (self.bucket / match[2]).is_file():
            raise Refused(400, "INVALID_ARGUMENT", f"The file [{path}] does not exist")
        return self.bucket / match[2]

    def _check_job(self, job: dict[str, Any]) -> None:
        if not any(entry["name"].endswith(f"/{job['device']}") for entry in self.catalog()):
            raise Refused(400, "INVALID_ARGUMENT", f"Device [{job['device']}] is not found in the catalog")
        if len(job["pushed"]) > 50 or len(job["pulled"]) > 10:
            raise Refused(400, "INVALID_ARGUMENT", "At most 50 files are pushed and 10 paths pulled")
        for path in (job["executable"], *job["pushed"]):
            self.stored(path)

    def _report(self, job: dict[str, Any], session: str) -> dict[str, Any]:
        times = {"startTime": "2026-12-01T06:11:40.279Z", "endTime": "2026-12-01T06:14:12.559Z"}
        report: dict[str, Any] = {"id": "d90e5c0b", "displayName": "job-000", **times}
        report["status"] = {"statusType": "DONE"}
        endings = {
            "timed_out": ("TIMED_OUT", "The execution timed out."),
            "error": ("ERROR", "The device was lost during the run."),
            "cancelled": ("CANCELLED", "The session was cancelled."),
        }
        if self.fault == "error":
            return report | {"result": _result(*endings["error"])}
        code, pulled = self._execute(job)
        inside = f"automation/sessions/{session}/job-000/execution-a7408d24"
        files = []
        for path, content in pulled.items():
            place = self.bucket / f"{inside}/artifacts{path}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            files.append({"gcsOutputFile": {"path": f"gs://{BUCKET}/{inside}/artifacts{path}"}})
        passed = _result("PASSED") if code == 0 else _result("FAILED", f"The binary ended with {code}.")
        result = _result(*endings[self.fault]) if self.fault in endings else passed
        execution = {"id": "a7408d24", **times, "outputFiles": files, "result": result}
        executions = [execution, execution] if self.fault == "twice" else [execution]
        return report | {"executionReports": executions, "result": result}

    def _execute(self, job: dict[str, Any]) -> tuple[int, dict[str, bytes]]:
        """Runs a job by mksh; returns its exit code, and the pulled files by their paths on the phone."""
        phone = self.folder / "phones" / str(len(self.sessions))
        for source, destination in job["pushed"].items():
            place = phone / destination.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.stored(source), place)
        program = self.stored(job["executable"])
        assert program.read_text().startswith("#!/system/bin/sh\n"), "a phone starts no other script"
        arguments = [str(phone / one.lstrip("/")) if one.startswith("/data/") else one for one in job["arguments"]]
        shell = shutil.which("mksh")
        assert shell is not None
        tools = self._programs(job["device"])
        environment = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "HOME": str(phone)}
        command = [shell, str(program), *arguments]
        if self.arm:
            environment |= {"QEMU_LD_PREFIX": "/usr/aarch64-linux-gnu", "QEMU_RESERVED_VA": ADDRESSES}
            mount = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc"
            register = f"printf %s {shlex.quote(ARM_PROGRAMS)} >/proc/sys/fs/binfmt_misc/register"
            start = f'{mount} && {register} && exec "$@"'
            command = ["unshare", "--map-root-user", "--mount", "sh", "-c", start, "sh", *command]
        done = subprocess.run(
            command,
            cwd=phone,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        pulled = {}
        for path in job["pulled"]:
            local = phone / path.lstrip("/")
            for file in sorted(local.rglob("*")) if local.is_dir() else [local] if local.is_file() else []:
                pulled[f"/{file.relative_to(phone).as_posix()}"] = file.read_bytes()
        return done.returncode, self._spoiled(pulled)

    def _spoiled(self, pulled: dict[str, bytes]) -> dict[str, bytes]:
        record = next((path for path in pulled if path.endswith(".run.json")), "")
        if self.fault == "partial":
            pulled.pop(record)
        elif self.fault == "truncated":
            pulled[record] = pulled[record][:500]
        elif self.fault == "other_job":
            pulled[record] = (
                pulled[record].replace(b'"order":[', b'"order":[ ', 1).replace(b'"label":"tiny', b'"label":"tinier')
            )
        return pulled

    def _programs(self, device: str) -> Path:
        """Programs of Android's shell, which report the phone's model and thermal state."""
        entry = next(one for one in self.catalog() if one["name"].endswith(f"/{device}"))
        folder = self.folder / "bin" / f"{device}{self.fault}"
        other = self.fault == "other_model"
        properties = {
            "ro.product.model": "Stand-in" if other else entry["displayName"],
            "ro.product.manufacturer": "Google",
            "ro.product.device": "shiba" if other else entry["modelCode"],
            "ro.product.cpu.abi": "arm64-v8a",
            "ro.build.version.release": "15",
            "ro.build.version.sdk": entry["osVersion"],
            "ro.build.fingerprint": f"stand-in/{device}",
            "ro.soc.model": "Tensor G4",
            "ro.serialno": "SECRET-SERIAL",
        }
        if self.fault == "no_properties":
            properties = {}
        listing = "\n".join(f"[{key}]: [{value}]" for key, value in properties.items())
        cases = "\n".join(f"  {key}) echo '{value}' ;;" for key, value in properties.items())
        script(folder / "getprop", f"case $1 in\n  '') cat <<'END'\n{listing}\nEND\n;;\n{cases}\nesac")
        script(folder / "dumpsys", "echo 'Thermal Status: 0'")
        for name in ("settings", "svc", "cmd"):
            script(folder / name, "exit 0")
        return folder


def _result(kind: str, message: str = "") -> dict[str, Any]:
    summary = {"type": "INFRA_ISSUE", "reason": kind, "message": message}
    return {"resultType": kind} | ({"cause": {"summary": summary}} if message else {})


def _handler(cloud: Cloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bytes) -> None:
            try:
                content, code = self._reply(body), 200
            except Refused as refused:
                content, code = refused.body, refused.code
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _reply(self, body: bytes) -> Any:
            if cloud.fault == "disabled":
                message = f"Device Run API has not been used in project {PROJECT} before or it is disabled."
                raise Refused(403, "PERMISSION_DENIED", message, "SERVICE_DISABLED")
            if self.path == "/devices":
                return cloud.catalog()
            if self.path == "/sessions":
                return cloud.create(json.loads(body))
            identifier = self.path.rpartition("/")[2]
            if identifier not in cloud.sessions:
                raise Refused(404, "NOT_FOUND", f"Resource '{self.path}' was not found")
            return cloud.session(identifier)

    return Handler


@contextmanager
def device_run(folder: Path) -> Iterator[Cloud]:
    """The service, with a bucket."""
    cloud = Cloud(folder)
    cloud.bucket.mkdir(parents=True)
    with serving(_handler(cloud)) as address:
        cloud.address = address
        yield cloud


def install_gcloud(folder: Path, cloud: Cloud, ready: bool = False) -> Path:
    """Puts a `gcloud` into a folder, and returns the folder. `ready`: signed in, with a project."""
    state = folder / "state.json"
    steps = dict.fromkeys(("account", "billing", "enabled"), ready)
    project = PROJECT if ready else ""
    state.write_text(json.dumps(steps | {"address": cloud.address, "bucket": str(cloud.bucket), "project": project}))
    program = Path(__file__).with_name("fake_gcloud.py")
    script(folder / "gcloud", f'exec {sys.executable} -I -S {program} {state} "$@"')
    return folder
