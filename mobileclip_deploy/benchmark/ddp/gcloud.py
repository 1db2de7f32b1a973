"""Client of Device Run by the program gcloud, which signs in by itself: no credential gets here."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mobileclip_deploy.base.files import link_or_copy
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.benchmark.bounded import SAID_BYTES, one_line, run_bounded
from mobileclip_deploy.benchmark.ddp.service import (
    BUCKET,
    BUCKET_VARIABLE,
    FAULTS,
    LOCATION,
    PROJECT,
    PROJECT_VARIABLE,
    SESSION,
    CatalogDevice,
    Devices,
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


class Gcloud:
    """Client by the program gcloud on PATH. `bucket`: of the files; it must exist.

    Its methods raise RuntimeFailed with a remedy, and Unreachable if a later call may succeed.

    Raises:
        RuntimeFailed: gcloud is not installed, or it has no project, or the bucket's name is not one.
    """

    def __init__(self) -> None:
        program = shutil.which("gcloud")
        if program is None:
            raise RuntimeFailed("gcloud is not installed; install it: https://cloud.google.com/sdk/docs/install")
        self._program, self.project, self.bucket = program, "PROJECT", "BUCKET"
        project = os.environ.get(PROJECT_VARIABLE) or self._output("config", "get", "project").strip()
        if not PROJECT.fullmatch(project):
            raise RuntimeFailed(
                "no project of Google Cloud is chosen; type: gcloud config set project PROJECT, or set "
                f"{PROJECT_VARIABLE}"
            )
        bucket = os.environ.get(BUCKET_VARIABLE) or f"{project}-devicerun"
        if not BUCKET.fullmatch(bucket):
            raise RuntimeFailed(f"{BUCKET_VARIABLE}={bucket!r} is not a bucket's name; leave out gs:// and any path")
        self.project, self.bucket = project, bucket

    def devices(self) -> tuple[CatalogDevice, ...]:
        """Returns the catalog."""
        listing = self._output(*self._words("devices", "list"), "--format=json")
        return parsed(Devices, b'{"devices": %s}' % (listing.encode() or b"[]")).devices

    def upload(self, files: Mapping[str, Path]) -> None:
        """Uploads files (object's name -> local file) that the bucket does not have. A name contains the hash."""
        size = sum(path.stat().st_size for path in files.values())
        with temporary_folder() as stage:
            for name, local in files.items():
                (stage / name).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(str(local), str(stage / name))
            tops = sorted(str(stage / name) for name in {name.partition("/")[0] for name in files})
            words = ("storage", "cp", "--recursive", "--no-clobber", *tops, f"gs://{self.bucket}/")
            self._output(*words, seconds=SECONDS + size / SLOWEST)

    def submit(self, submission: Submission) -> Started:
        """Starts a session of one job, which Google bills."""
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
        """Returns the session if it has ended; None while it runs."""
        words = ("beta", "device-run", "sessions", "describe", started.session, "--full", "--format=json")
        reply = self._output(*words, f"--project={started.project}", f"--location={LOCATION}")
        session = parsed(Session, reply.encode())
        return session if session.status == "DONE" else None

    def download(self, path: str, limit: int) -> bytes:
        """Returns an object's content; refuses one of more than `limit` bytes."""
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
            raise self._failure(text)
        return done

    def _failure(self, text: str) -> RuntimeFailed:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        detail = one_line(lines[-1] if lines else "no reason given", 200)
        for pattern, message in FAULTS:
            if re.search(pattern, text):
                return RuntimeFailed(message.format(project=self.project, bucket=self.bucket, detail=detail))
        return RuntimeFailed(f"Google's Device Run refused ({detail}); correct that, or try again")
