"""Client of Device Run by REST, with the user's application-default credentials.

They are read when a token is needed, sent to Google alone, and neither written nor shown. The token stays in memory.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import AliasPath, Field, ValidationError

from mobileclip_deploy.base.files import read_regular
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.names import Name, Prose
from mobileclip_deploy.benchmark.bounded import SAID_BYTES, one_line
from mobileclip_deploy.benchmark.ddp.service import (
    LOCATION,
    PROJECT_VARIABLE,
    CatalogDevice,
    Devices,
    Reply,
    Service,
    Session,
    Started,
    Submission,
    Unreachable,
    parsed,
)
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed, UsageError

SERVER_VARIABLE = "MOBILECLIP_DDP_SERVER"
LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost):\d{1,5}")
SECONDS = 60
MOST_PAGES = 50
Secret = Annotated[str, Field(max_length=4096, repr=False)]


class UserCredentials(Reply):
    """Content of application_default_credentials.json, as `gcloud auth application-default login` writes it."""

    type: Name
    client_id: Name = ""
    client_secret: Secret = ""
    refresh_token: Secret = ""
    quota_project_id: Name = ""


class Token(Reply):
    """A token of an hour."""

    access_token: Secret


class Operation(Reply):
    """A request that goes on after its reply. `target`: the session. `error`: why there is none."""

    name: Name
    done: bool = False
    target: Name = Field("", validation_alias=AliasPath("metadata", "target"))
    error: Prose | None = Field(None, validation_alias=AliasPath("error", "message"))
    response: Session | None = None


class Rest(Service):
    """Client with the credentials in a file.

    Raises:
        RuntimeFailed: there are no credentials, or they are not a user's.
    """

    login = "gcloud auth application-default login"
    who = "this computer is"

    def __init__(self, credentials: Path) -> None:
        self._file, self._token = credentials, ""
        server = os.environ.get(SERVER_VARIABLE, "")
        if server and not LOOPBACK.fullmatch(server):
            raise UsageError(f"{SERVER_VARIABLE}={server!r} is not a server of this computer; unset it")
        self.simulated = bool(server)
        self._tokens = f"{server}/token" if server else "https://oauth2.googleapis.com/token"
        self._storage = server or "https://storage.googleapis.com"
        self._run = f"{server or 'https://devicerun.googleapis.com'}/v1alpha"
        # A redirect would carry the token to another host.
        self._opener = urllib.request.build_opener(_NoRedirect)
        chosen = os.environ.get(PROJECT_VARIABLE) or self._credentials().quota_project_id
        self.project = self.checked_project(chosen, "type: gcloud auth application-default set-quota-project PROJECT")

    def devices(self) -> tuple[CatalogDevice, ...]:
        catalog: tuple[CatalogDevice, ...] = ()
        token = ""
        for _ in range(MOST_PAGES):
            query = urllib.parse.urlencode({"pageToken": token} if token else {})
            page = parsed(Devices, self._call("GET", f"{self._parent}/devices?{query}"))
            catalog, token = catalog + page.devices, page.next_page
            if not token:
                break
        return catalog

    def upload(self, files: Mapping[str, Path]) -> None:
        objects = f"{self._storage}/storage/v1/b/{self.bucket}/o"
        for name, local in files.items():
            if self._exists(f"{objects}/{urllib.parse.quote(name, safe='')}?fields=size"):
                continue
            query = urllib.parse.urlencode({"uploadType": "media", "name": name, "ifGenerationMatch": "0"})
            with local.open("rb") as stream:
                self._call("POST", f"{self._storage}/upload/storage/v1/b/{self.bucket}/o?{query}", stream)

    def submit(self, submission: Submission) -> Started:
        # The same request_id names the same request, so that a lost reply does not start, and bill, a second session.
        query = urllib.parse.urlencode({"requestId": str(uuid.uuid4())})
        body = json.dumps(self._body(submission)).encode()
        url = f"{self._parent}/sessions?{query}"
        try:
            reply = self._call("POST", url, body)
        except Unreachable:
            reply = self._call("POST", url, body)
        operation = self._checked(reply)
        return Started(
            session=operation.target.rpartition("/")[2],
            device=submission.device,
            project=self.project,
            seconds=submission.seconds,
            operation=operation.name,
        )

    def report(self, started: Started) -> Session | None:
        if not started.operation:
            raise RuntimeFailed(f"gcloud started the session {started.session}; install gcloud again to fetch it")
        operation = self._checked(self._call("GET", f"{self._run}/{started.operation}"))
        return operation.response if operation.done else None

    def download(self, path: str, limit: int) -> bytes:
        bucket, _, name = path.removeprefix("gs://").partition("/")
        url = f"{self._storage}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
        return self._call("GET", url, limit=limit)

    @property
    def _parent(self) -> str:
        return f"{self._run}/projects/{self.project}/locations/{LOCATION}"

    def _body(self, submission: Submission) -> dict[str, Any]:
        """Returns the request for a session of one job, with one attempt."""

        def stored(name: str) -> dict[str, Any]:
            return {"gcsInputFile": {"path": f"gs://{self.bucket}/{name}"}}

        pushed = [{"sourceFile": stored(name), "destinationPath": place} for place, name in submission.pushed.items()]
        binary = {
            "androidNativeBinary": stored(submission.executable),
            "args": list(submission.arguments),
            "executionTimeout": f"{submission.seconds}s",
        }
        actions: list[dict[str, Any]] = [
            {"androidPushFiles": {"fileConfigs": pushed}},
            {"androidPullFiles": {"paths": list(submission.pulled)}},
        ]
        device = {"requirement": {"deviceId": submission.device}, "actions": actions}
        job = {
            "displayName": submission.name,
            "action": {"androidNativeBinary": binary},
            "allocationConfig": {"deviceConfigs": [device]},
            "settings": {"retrySettings": {"flakyTestRetryStrategy": {"flakyTestAttempts": 1}}},
            "labels": {"tool": "mobileclip-deploy"},
        }
        directory = {"gcsOutputDirectory": {"path": f"gs://{self.bucket}/mobileclip-deploy/sessions"}}
        config = {"displayName": submission.name, "jobConfigs": [job], "outputDirectoryConfig": directory}
        return {"sessionConfig": config}

    def _checked(self, reply: bytes) -> Operation:
        operation = parsed(Operation, reply)
        if operation.error is not None:
            raise self.failure(operation.error)
        return operation

    def _exists(self, url: str) -> bool:
        try:
            self._call("GET", url)
        except _Missing:
            return False
        return True

    def _credentials(self) -> UserCredentials:
        remedy = f"type: {self.login}"
        try:
            credentials = parse_model(UserCredentials, read_regular(self._file))
        except OSError:
            raise RuntimeFailed(f"{self.who} not signed in to Google Cloud; {remedy}") from None
        except (ValidationError, InvalidInput):  # its text could show what the file contains
            raise RuntimeFailed(f"{self._file} has no credentials of a user; {remedy}") from None
        if credentials.type != "authorized_user" or not credentials.refresh_token:
            kind = one_line(credentials.type, 40)
            raise RuntimeFailed(f"{self._file} has credentials of the kind {kind}, which gcloud alone uses; install it")
        return credentials

    def _sign_in(self) -> None:
        credentials = self._credentials()
        form = {
            "grant_type": "refresh_token",
            "client_id": credentials.client_id,
            "client_secret": credentials.client_secret,
            "refresh_token": credentials.refresh_token,
        }
        request = urllib.request.Request(self._tokens, urllib.parse.urlencode(form).encode(), method="POST")
        self._token = parsed(Token, self._send(request, SAID_BYTES)).access_token

    def _call(self, method: str, url: str, body: bytes | IO[bytes] | None = None, limit: int = SAID_BYTES) -> bytes:
        if not self._token:
            self._sign_in()
        try:
            return self._send(self._request(method, url, body), limit)
        except _Expired:
            self._sign_in()
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        return self._send(self._request(method, url, body), limit)

    def _request(self, method: str, url: str, body: bytes | IO[bytes] | None) -> urllib.request.Request:
        headers = {"Authorization": f"Bearer {self._token}", "X-Goog-User-Project": self.project}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        elif body is not None:
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)
        return urllib.request.Request(url, body, headers, method=method)

    def _send(self, request: urllib.request.Request, limit: int) -> bytes:
        host = urllib.parse.urlsplit(request.full_url).netloc
        try:
            with self._opener.open(request, timeout=SECONDS) as reply:
                content: bytes = reply.read(limit + 1)
        except urllib.error.HTTPError as error:
            with error:
                text = _error_text(error.read(SAID_BYTES))
            if error.code == 404 and request.get_method() == "GET" and "ucket" not in text:
                raise _Missing(f"{host} has no such object or session ({one_line(text, 200)}); run again") from None
            if error.code == 401 and request.has_header("Authorization"):
                raise _Expired(str(self.failure("UNAUTHENTICATED"))) from None
            if error.code >= 500:
                raise Unreachable(f"{host} does not reply ({error.code}); try again") from None
            raise self.failure(f"{error.code} {text}") from None
        except (OSError, HTTPException) as error:
            raise Unreachable(f"{host} cannot be reached ({one_line(str(error), 120)}); try again") from None
        if len(content) > limit:
            raise RuntimeFailed(f"{host} sent more than {limit >> 20} MiB, more than expected; run again")
        return content


class _Missing(RuntimeFailed):
    """Error of an object that the bucket does not have."""


class _Expired(RuntimeFailed):
    """Error of a token that is not valid any more."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _error_text(content: bytes) -> str:
    """Returns status, reasons and message of an error reply on one line."""
    try:
        error = json.loads(content)["error"]
        if isinstance(error, str):
            return error
        reasons = [str(item.get("reason", "")) for item in error.get("details", []) if isinstance(item, dict)]
        return " ".join([str(error.get("status", "")), *reasons, str(error.get("message", ""))])
    except (ValueError, LookupError, TypeError, AttributeError):
        return content[:300].decode(errors="replace")
