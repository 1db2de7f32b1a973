"""A stand-in for Google's Device Run and Cloud Storage on loopback, and a `gcloud` on PATH that talks to it.

The messages, their fields and their limits are those of Google's own clients for the API `devicerun` v1alpha: the
interfaces `Schema$Session`, `Schema$JobConfig`, `Schema$AndroidPushFilesDeviceAction` (at most 50 files),
`Schema$AndroidPullFilesDeviceAction` (at most 10 paths, best effort), `Schema$AndroidNativeBinary` (1 minute to 3
hours) and `Schema$CatalogDevice` in googleapis/google-api-nodejs-client, src/apis/devicerun/v1alpha.ts. The command
line is that of gcloud's surface/device_run/sessions/submit/android_executable.py, sessions/describe.py and
devices/list.py. The replies have the form of a real session's (john-rocky/edge-llm-bench,
results/raw/2026-09-17-ddp-litert-lm-caiman-35/operation.json), and the requests that of google-ai-edge/LiteRT-CLI,
litert_cli/commands/benchmark/ddp.py.

What it refuses, they refuse: no or a wrong token, an unknown field, a name of more than 63 bytes, an unknown device,
too many files, a time limit out of range, a bucket or object that is not there, a flag that gcloud does not have. A job
is run here, by mksh, with a folder in the place of the phone's /data/local/tmp. Its phones are not phones: without
/system/bin/linker64 every result is marked simulated. They take programs for x86-64 too, since those run here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from benchmark.android.standin import ADDRESSES, ARM_PROGRAMS
from programs import script, serving

PROJECT, BUCKET = "our-phones", "our-phones-devicerun"
REFRESH, ACCESS, SECRET = "1//refresh-of-a-user", "ya29.access-of-a-user", "secret-of-a-client"
TEXT, NUMBER, PATH = "text", "number", {"gcsInputFile": {"path": "text"}}
PUSHED = {"sourceFile": PATH, "destinationPath": TEXT}
SESSION: dict[str, Any] = {
    "sessionConfig": {
        "displayName": TEXT,
        "jobConfigs": [
            {
                "displayName": TEXT,
                "action": {
                    "androidNativeBinary": {
                        "androidNativeBinary": PATH,
                        "args": [TEXT],
                        "envVars": {},
                        "executionTimeout": TEXT,
                    }
                },
                "allocationConfig": {
                    "deviceConfigs": [
                        {
                            "requirement": {"deviceId": TEXT},
                            "actions": [
                                {
                                    "androidLogcat": {},
                                    "androidPushFiles": {
                                        "fileConfigs": [{"sourceFile": PATH, "destinationPath": TEXT}]
                                    },
                                    "androidPullFiles": {"paths": [TEXT]},
                                }
                            ],
                        }
                    ]
                },
                "settings": {"retrySettings": {"flakyTestRetryStrategy": {"flakyTestAttempts": NUMBER}}},
                "labels": {"*": TEXT},
            }
        ],
        "outputDirectoryConfig": {"gcsOutputDirectory": {"path": TEXT}},
    }
}
"""Fields of a session that a native binary can have."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-_ ]*")


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
    signed_in: bool = True
    token: str = ACCESS
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
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

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Starts a session: checks it, and runs its jobs to their ends."""
        planted = {
            "quota": (429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Device minutes'"),
            "billing": (403, "PERMISSION_DENIED", "This API method requires billing to be enabled"),
            "forbidden": (403, "PERMISSION_DENIED", "Permission 'devicerun.sessions.create' denied"),
        }
        if self.fault in planted:
            raise Refused(*planted[self.fault])
        _check_fields(body, SESSION, "session")
        config = body["sessionConfig"]
        identifier = f"session-{len(self.sessions) + 1:08x}"
        reports = []
        for index, job in enumerate(config["jobConfigs"]):
            device, fault = self._check_job(job), self.fault
            self.fault = fault if self.only in ("", device) else ""
            reports.append(self._report(job, index, identifier, config["outputDirectoryConfig"]))
            self.fault = fault
        failed = [report["result"] for report in reports if report["result"]["resultType"] != "PASSED"]
        report = {
            "id": "b821197a",
            "jobReports": reports,
            "status": {"statusType": "DONE"},
            "result": (failed or [{"resultType": "PASSED"}])[0],
        }
        name = f"projects/{PROJECT}/locations/global/sessions/{identifier}"
        self.sessions[identifier] = {"name": name, "sessionConfig": config, "sessionReport": report}
        return self.operation(identifier, done=False)

    def operation(self, identifier: str, done: bool) -> dict[str, Any]:
        parent = f"projects/{PROJECT}/locations/global"
        metadata = {"target": f"{parent}/sessions/{identifier}", "verb": "create", "apiVersion": "v1alpha"}
        reply = {"name": f"{parent}/operations/operation-{identifier}", "metadata": metadata, "done": done}
        return reply | ({"response": self.sessions[identifier]} if done else {})

    def session(self, identifier: str) -> dict[str, Any] | None:
        """The session if it has ended, at its second poll."""
        if self.unreachable:
            self.unreachable -= 1
            raise Refused(503, "UNAVAILABLE", "The service is currently unavailable.")
        self.polls[identifier] = self.polls.get(identifier, 0) + 1
        return self.sessions[identifier] if self.polls[identifier] > 1 and self.fault != "slow" else None

    def stored(self, path: str) -> Path:
        match = re.fullmatch(r"gs://([^/]+)/(.+)", path)
        if match is None or match[1] != BUCKET or not (self.bucket / match[2]).is_file():
            raise Refused(400, "INVALID_ARGUMENT", f"The file [{path}] does not exist")
        return self.bucket / match[2]

    def _check_job(self, job: dict[str, Any]) -> str:
        """Returns the phone's identifier."""
        name = job.get("displayName", "job-000")
        if len(name.encode()) > 63 or not NAME.fullmatch(name):
            raise Refused(400, "INVALID_ARGUMENT", f"Invalid display name [{name}]")
        binary = job["action"]["androidNativeBinary"]
        seconds = int(binary.get("executionTimeout", "300s").removesuffix("s"))
        if not 60 <= seconds <= 10_800:
            raise Refused(400, "INVALID_ARGUMENT", "execution_timeout must be in [1m, 3h]")
        (device,) = job["allocationConfig"]["deviceConfigs"]
        wanted = device["requirement"]["deviceId"]
        if not any(entry["name"].endswith(f"/{wanted}") for entry in self.catalog()):
            raise Refused(400, "INVALID_ARGUMENT", f"Device [{wanted}] is not found in the catalog")
        actions = {name: action for item in device["actions"] for name, action in item.items()}
        if len(actions) != len(device["actions"]):
            raise Refused(400, "INVALID_ARGUMENT", "Each action type can at most have 1 instance")
        pushed = actions.get("androidPushFiles", {}).get("fileConfigs", [])
        if len(pushed) > 50 or len(actions.get("androidPullFiles", {}).get("paths", [])) > 10:
            raise Refused(400, "INVALID_ARGUMENT", "At most 50 files are pushed and 10 paths pulled")
        for item in (binary["androidNativeBinary"], *(one["sourceFile"] for one in pushed)):
            self.stored(item["gcsInputFile"]["path"])
        attempts = job.get("settings", {}).get("retrySettings", {}).get("flakyTestRetryStrategy", {})
        assert attempts.get("flakyTestAttempts", 1) == 1
        return str(wanted)

    def _report(self, job: dict[str, Any], index: int, session: str, into: dict[str, Any]) -> dict[str, Any]:
        times = {"startTime": "2026-12-01T06:11:40.279Z", "endTime": "2026-12-01T06:14:12.559Z"}
        name = job.get("displayName", f"job-{index:03d}")
        report: dict[str, Any] = {"id": "d90e5c0b", "displayName": name, **times, "status": {"statusType": "DONE"}}
        endings = {
            "timed_out": ("TIMED_OUT", "The execution timed out."),
            "error": ("ERROR", "The device was lost during the run."),
            "cancelled": ("CANCELLED", "The session was cancelled."),
        }
        if self.fault == "error":
            return report | {"result": _result(*endings["error"])}
        code, pulled = self._execute(job, name)
        directory = into["gcsOutputDirectory"]["path"].removeprefix(f"gs://{BUCKET}/")
        inside = f"{directory}/{session}/{name}/execution-a7408d24"
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

    def _execute(self, job: dict[str, Any], name: str) -> tuple[int, dict[str, bytes]]:
        """Runs a job by mksh; returns its exit code, and the pulled files by their paths on the phone."""
        phone = self.folder / "phones" / f"{name}-{len(self.sessions)}"
        (device,) = job["allocationConfig"]["deviceConfigs"]
        actions = {action: value for item in device["actions"] for action, value in item.items()}
        for item in actions["androidPushFiles"]["fileConfigs"]:
            place = phone / item["destinationPath"].lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.stored(item["sourceFile"]["gcsInputFile"]["path"]), place)
        binary = job["action"]["androidNativeBinary"]
        program = self.stored(binary["androidNativeBinary"]["gcsInputFile"]["path"])
        assert program.read_text().startswith("#!/system/bin/sh\n"), "a phone starts no other script"
        arguments = [str(phone / one.lstrip("/")) if one.startswith("/data/") else one for one in binary["args"]]
        shell = shutil.which("mksh")
        assert shell is not None
        tools = self._programs(device["requirement"]["deviceId"])
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
        for path in actions["androidPullFiles"]["paths"]:
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


def _check_fields(value: Any, known: Any, where: str) -> None:
    """Refuses an unknown field, as the service does, and a value of another type."""
    if isinstance(known, dict):
        for name, inner in value.items():
            if name not in known and "*" not in known:
                message = f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field."
                raise Refused(400, "INVALID_ARGUMENT", message)
            _check_fields(inner, known.get(name, known.get("*")), f"{where}.{name}")
    elif isinstance(known, list):
        for item in value:
            _check_fields(item, known[0], where)
    elif not isinstance(value, str if known == TEXT else int):
        raise Refused(400, "INVALID_ARGUMENT", f"Invalid value at '{where}'")


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
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            try:
                content: Any = self._reply(url.path, query, body)
                code = 200
            except Refused as refused:
                content, code = refused.body, refused.code
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _reply(self, path: str, query: dict[str, str], body: bytes) -> Any:
            cloud.requests.append((self.command, path, None if len(body) > 1 << 20 else body))
            if path == "/token":
                form = dict(urllib.parse.parse_qsl(body.decode()))
                if not cloud.signed_in or (form["refresh_token"], form["client_secret"]) != (REFRESH, SECRET):
                    refused: Any = Refused(400, "", "")
                    refused.body = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
                    raise refused
                assert form["grant_type"] == "refresh_token"
                return {"access_token": cloud.token, "expires_in": 3599, "token_type": "Bearer"}
            if self.headers.get("Authorization") != f"Bearer {cloud.token}":
                raise Refused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
            if cloud.fault == "disabled":
                message = f"Device Run API has not been used in project {PROJECT} before or it is disabled."
                raise Refused(403, "PERMISSION_DENIED", message, "SERVICE_DISABLED")
            if path.startswith("/v1alpha/"):
                return self._device_run(path.removeprefix("/v1alpha/"), query, body)
            return self._object(path, query, body)

        def _device_run(self, path: str, query: dict[str, str], body: bytes) -> Any:
            parent = f"projects/{PROJECT}/locations/global"
            if path == f"{parent}/devices":
                entries, first = cloud.catalog(), int(query.get("pageToken", "0"))
                more = {"nextPageToken": str(first + 2)} if first + 2 < len(entries) else {}
                return {"devices": entries[first : first + 2]} | more
            if path == f"{parent}/sessions" and self.command == "POST":
                return cloud.create(json.loads(body))
            identifier = path.rpartition("/")[2].removeprefix("operation-")
            if identifier not in cloud.sessions:
                raise Refused(404, "NOT_FOUND", f"Resource '{path}' was not found")
            ended = cloud.session(identifier)
            return cloud.operation(identifier, done=ended is not None)

        def _object(self, path: str, query: dict[str, str], body: bytes) -> Any:
            upload = re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path)
            stored = re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", path)
            found = upload or stored
            assert found is not None, path
            if found[1] != BUCKET or not cloud.bucket.is_dir():
                raise Refused(404, "", "The specified bucket does not exist.")
            if upload:
                file = cloud.bucket / query["name"]
                if query.get("ifGenerationMatch") == "0" and file.exists():
                    raise Refused(412, "", "At least one of the pre-conditions you specified did not hold.")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(body)
                return {"name": query["name"], "size": str(len(body))}
            file = cloud.bucket / urllib.parse.unquote(found[2])
            if not file.is_file():
                raise Refused(404, "", f"No such object: {BUCKET}/{found[2]}")
            return file.read_bytes() if query.get("alt") == "media" else {"size": str(file.stat().st_size)}

    return Handler


@contextmanager
def device_run(folder: Path) -> Iterator[Cloud]:
    """The service, with a bucket."""
    cloud = Cloud(folder)
    cloud.bucket.mkdir(parents=True)
    with serving(_handler(cloud)) as address:
        cloud.address = address
        yield cloud


def sign_in(file: Path) -> Path:
    """Writes what `gcloud auth application-default login` writes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "account": "",
        "client_id": "client.apps.googleusercontent.com",
        "client_secret": SECRET,
        "quota_project_id": PROJECT,
        "refresh_token": REFRESH,
        "type": "authorized_user",
        "universe_domain": "googleapis.com",
    }
    file.write_text(json.dumps(content))
    return file


def install_gcloud(folder: Path, cloud: Cloud) -> Path:
    """Puts a `gcloud` into a folder, and returns the folder."""
    state = folder / "state.json"
    unknown = dict.fromkeys(("account", "billing", "enabled"), False)
    state.write_text(json.dumps(unknown | {"address": cloud.address, "bucket": str(cloud.bucket), "project": ""}))
    program = Path(__file__).with_name("fake_gcloud.py")
    script(folder / "gcloud", f'exec {sys.executable} {program} {state} "$@"')
    return folder
