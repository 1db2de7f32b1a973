"""Client of Device Run by the program gcloud, which signs in by itself: no credential gets here."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mobileclip_deploy.base.files import link_or_copy
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.benchmark.bounded import SAID_BYTES, run_bounded
from mobileclip_deploy.benchmark.ddp.service import (
    LOCATION,
    PROJECT_VARIABLE,
    SESSION,
    CatalogDevice,
    Devices,
    Service,
    Session,
    Started,
    Submission,
    Unreachable,
    parsed,
)
from mobileclip_deploy.errors import RuntimeFailed

SECONDS = 120
"""Time limit of a command, without the time of its upload."""
SLOWEST = 50_000
"""Bytes per second of the slowest upload that does not count as hung."""
CREATED = re.compile(rf"Creating session \[({SESSION})\]")


class Gcloud(Service):
    """Client by the program at the path `program`."""

    login = "gcloud auth login"
    who = "gcloud is"

    def __init__(self, program: str) -> None:
        self._program = program
        chosen = os.environ.get(PROJECT_VARIABLE) or self._output("config", "get", "project").strip()
        self.project = self.checked_project(chosen, "type: gcloud config set project PROJECT")

    def devices(self) -> tuple[CatalogDevice, ...]:
        listing = self._output(*self._words("devices", "list"), "--format=json")
        return parsed(Devices, b'{"devices": %s}' % (listing.encode() or b"[]")).devices

    def upload(self, files: Mapping[str, Path]) -> None:
        size = sum(path.stat().st_size for path in files.values())
        with temporary_folder() as stage:
            for name, local in files.items():
                (stage / name).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(str(local), str(stage / name))
            tops = sorted(str(stage / name) for name in {name.partition("/")[0] for name in files})
            words = ("storage", "cp", "--recursive", "--no-clobber", *tops, f"gs://{self.bucket}/")
            self._output(*words, seconds=SECONDS + size / SLOWEST)

    def submit(self, submission: Submission) -> Started:
        pushed = ",".join(f"gs://{self.bucket}/{name}={place}" for place, name in submission.pushed.items())
        done = self._output(
            *self._words("sessions", "submit", "android-executable"),
            f"--device={submission.device}",
            f"--executable=gs://{self.bucket}/{submission.executable}",
            f"--executable-args={','.join(submission.arguments)}",
            f"--executable-timeout={submission.seconds}s",
            f"--other-files-to-push={pushed}",
            f"--paths-to-pull={','.join(submission.pulled)}",
            f"--bucket-name={self.bucket}",
            f"--labels=tool=mobileclip-deploy,job={submission.name}",
            "--flaky-test-attempts=1",
            "--async",
            errors_too=True,
        )
        created = CREATED.search(done)
        if created is None:
            raise RuntimeFailed(
                "gcloud names no session; look at gcloud beta device-run sessions list before you run again, since a "
                "session is billed"
            )
        return Started(session=created[1], device=submission.device, project=self.project, seconds=submission.seconds)

    def report(self, started: Started) -> Session | None:
        words = ("beta", "device-run", "sessions", "describe", started.session, "--full", "--format=json")
        reply = self._output(*words, f"--project={started.project}", f"--location={LOCATION}")
        session = parsed(Session, reply.encode())
        return session if session.status == "DONE" else None

    def download(self, path: str, limit: int) -> bytes:
        return self._bytes(("storage", "cat", path), SECONDS + limit / SLOWEST, limit).stdout

    def _words(self, *command: str) -> tuple[str, ...]:
        return ("beta", "device-run", *command, f"--project={self.project}", f"--location={LOCATION}")

    def _output(self, *words: str, seconds: float = SECONDS, errors_too: bool = False) -> str:
        done = self._bytes(words, seconds)
        return (done.stdout + (done.stderr if errors_too else b"")).decode(errors="replace")

    def _bytes(
        self, words: tuple[str, ...], seconds: float, limit: int = SAID_BYTES
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            done = run_bounded([self._program, *words, "--quiet"], seconds, limit)
        except subprocess.TimeoutExpired as error:
            command = " ".join(words[:4])
            raise Unreachable(f"gcloud {command} took more than {seconds:.0f} s; try again") from error
        except OSError as error:
            raise RuntimeFailed(f"{self._program} cannot be run ({error.strerror}); reinstall gcloud") from error
        if done.returncode != 0:
            text = done.stderr.decode(errors="replace")
            if re.search(r"HTTPError 5\d\d|UNAVAILABLE|Connection|timed out|Max retries", text):
                raise Unreachable(f"gcloud does not reach Google Cloud ({text.strip()[-200:]}); try again")
            raise self.failure(text)
        return done
