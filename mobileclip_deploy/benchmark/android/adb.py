"""The adb command line: every word that reaches a phone's shell is quoted, every failure is one line with a remedy."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.base.files import artifact_bytes
from mobileclip_deploy.base.files.leftovers import temporary_folder
from mobileclip_deploy.benchmark.bounded import SAID_BYTES, run_bounded
from mobileclip_deploy.errors import RuntimeFailed

PATIENCE_SECONDS = 60
PULL_SECONDS = 600
LOOK_SECONDS = 1.0
SLOWEST = 4_000
"""Bytes per second of a connection before its first push was timed: by a tunnel to another continent it is faster."""
PROBE_BYTES = 256 << 10
SLOWER = 5
"""A push that takes so many times as long as the rate of the ones before says hangs."""
END = re.compile(r"mobileclip-shell-ended (\d+)\s*\Z")

STATES = {
    "unauthorized": "unlock the phone and accept 'Allow USB debugging'; if it does not ask, replug it",
    "authorizing": "unlock the phone and accept 'Allow USB debugging'",
    "offline": "replug the phone, or type: adb reconnect offline",
    "connecting": "wait a moment, then try again",
    "no permissions": "this user may not use USB devices: install android-sdk-platform-tools-common, then replug",
    "recovery": "start the phone into Android: adb reboot",
    "sideload": "start the phone into Android: adb reboot",
    "bootloader": "start the phone into Android: fastboot reboot",
}

# What adb prints -> what to tell. The first that is found counts; {serial} is the phone's.
LOST = (
    ("not found|no devices", "the phone {serial} is gone: replug it and look at `mobileclip-deploy devices`"),
    ("unauthorized", "the phone {serial} does not trust this computer: " + STATES["unauthorized"]),
    ("device offline", "the phone {serial} is offline: " + STATES["offline"]),
    ("still authorizing", "the phone {serial} does not trust this computer yet: " + STATES["authorizing"]),
)
REFUSED = (
    ("No space left|Disk quota exceeded", "the phone {serial} is full: make room on it, then run again"),
    (
        "Read-only file system",
        "{folder} on the phone {serial} cannot be written: name another folder in MOBILECLIP_ANDROID_FOLDER",
    ),
    (
        "ermission denied",
        "the shell of the phone {serial} may not use {folder} (a managed phone?): use another phone, or name a folder "
        "that it may write and execute in MOBILECLIP_ANDROID_FOLDER",
    ),
)
SERVER = ("cannot connect to daemon", "failed to start daemon", "failed to check server version", "cannot bind")


class DeviceLost(RuntimeFailed):
    """The phone can no longer be reached."""


@dataclass(frozen=True)
class Answer:
    """What a command on the phone wrote, and its exit code."""

    code: int
    output: str
    errors: str = ""


def find_adb() -> str:
    """The adb program: on PATH, or of the Android SDK in ANDROID_HOME, ANDROID_SDK_ROOT or where Android Studio has it.

    Raises:
        RuntimeFailed: there is none; says how to get it.
    """
    found = shutil.which("adb")
    homes = [os.environ.get(name) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")]
    folders = [Path(home) for home in homes if home] + studio_folders()
    programs = ("adb", "adb.exe")  # the second is Windows', which WSL starts too
    candidates = [found, *(str(folder / "platform-tools" / name) for folder in folders for name in programs)]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise RuntimeFailed(
        "adb is not installed: install Android's platform-tools (Debian: apt-get install adb; macOS: brew install "
        "android-platform-tools; Windows: winget install Google.PlatformTools) and put adb on PATH"
    )


def studio_folders() -> list[Path]:
    """Folders of Android Studio's SDK: on a Mac, on Linux, on Windows."""
    local = os.environ.get("LOCALAPPDATA")
    mac_and_linux = [Path.home() / "Library" / "Android" / "sdk", Path.home() / "Android" / "Sdk"]
    return [*mac_and_linux, *([Path(local) / "Android" / "Sdk"] if local else [])]


def listed_devices() -> tuple[tuple[str, str], ...]:
    """Serial number and state of all devices that adb knows.

    Raises:
        RuntimeFailed: there is no adb, or its server does not answer.
    """
    done = _run([find_adb(), "devices"], PATIENCE_SECONDS, None)
    if done.code != 0:
        raise _server_failure(done)
    rows = done.output.partition("List of devices attached")[2].splitlines()
    pairs = (row.split("\t", 1) for row in rows if "\t" in row)
    return tuple((serial.strip(), _state(state)) for serial, state in pairs)


def is_back(serial: str, seconds: float) -> bool:
    """Waits for a phone that was lost, and connects one in the network again; returns whether it is ready in time."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(RuntimeFailed):  # adb's server may start again meanwhile
            if dict(listed_devices()).get(serial) == "device":
                return True
            if ":" in serial:
                _run([find_adb(), "connect", serial], PATIENCE_SECONDS, None)
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_SECONDS)


def remedy_for_state(state: str) -> str | None:
    """What to do about a device in this state; None if it is ready."""
    if state == "device":
        return None
    return STATES.get(state, f"adb says {state!r}: replug the phone")


def quoted(*words: str) -> str:
    """Words for a POSIX shell, each taken literally."""
    return " ".join(shlex.quote(word) for word in words)


class Adb:
    """One phone. `folder` is only named in messages: where this project writes on it.

    What asks the phone raises DeviceLost where it is lost, and RuntimeFailed where it is full or refuses.
    """

    def __init__(self, serial: str, folder: str) -> None:
        self.serial, self._folder = serial, folder
        self._program = find_adb()
        self._rate: float | None = None

    def command(self, *words: str) -> list[str]:
        """An adb command line for this phone, for `subprocess`; no shell of this computer sees it."""
        return [self._program, "-s", self.serial, *words]

    def shell(self, script: str, patience: float = PATIENCE_SECONDS, limit: int = SAID_BYTES) -> Answer:
        """Run a script in the phone's shell; whatever is not a constant in it has gone through `quoted`. More than
        `limit` bytes of output are refused."""
        # adb's exit code is 1 or 255 for a lost connection and for a command that failed: this line tells them apart.
        words = self.command("shell", f"({script}\n); echo mobileclip-shell-ended $?")
        done = _run(words, patience, self.serial, limit)
        end = END.search(done.output)
        if end is None:
            raise self.failure(done)
        return Answer(int(end[1]), done.output[: end.start()], done.errors)

    def demand(self, script: str, patience: float = PATIENCE_SECONDS, limit: int = SAID_BYTES) -> str:
        """Like `shell`, for a script that has to succeed; returns what it wrote."""
        answer = self.shell(script, patience, limit)
        if answer.code != 0:
            raise self.failure(answer)
        return answer.output

    def push(self, local: Path, remote: str) -> None:
        """Copy a file, or a folder to where nothing is; a part may be there after an error. `remote` is no shell's
        business."""
        size = artifact_bytes(local)
        if self._rate is None and size > PROBE_BYTES:
            self._push_probe(remote)
        rate = SLOWEST if self._rate is None else self._rate / SLOWER
        self._push(local, remote, PATIENCE_SECONDS + size / rate)

    def _push_probe(self, remote: str) -> None:
        """Time a push of `PROBE_BYTES` that do not compress, to a file beside `remote`."""
        with temporary_folder() as folder:
            probe = folder / "probe"
            probe.write_bytes(os.urandom(PROBE_BYTES))
            self._push(probe, f"{remote}.probe", PATIENCE_SECONDS + PROBE_BYTES / SLOWEST)
        self.shell(f"rm -f -- {quoted(f'{remote}.probe')}")

    def _push(self, local: Path, remote: str, patience: float) -> None:
        started = time.monotonic()
        done = _run(self.command("push", str(local.resolve()), remote), patience, self.serial)
        if done.code != 0:
            raise self.failure(done)
        size = artifact_bytes(local)
        if size >= PROBE_BYTES:
            self._rate = size / max(time.monotonic() - started, 1e-3)

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file or a folder from the phone."""
        done = _run(self.command("pull", remote, str(local.resolve())), PULL_SECONDS, self.serial)
        if done.code != 0:
            raise self.failure(done)

    def failure(self, done: Answer) -> RuntimeFailed:
        """The error for what adb, or a program on the phone, said when it failed."""
        text = f"{done.errors}\n{done.output}"
        for pattern, message in LOST:
            if re.search(pattern, done.errors):
                return DeviceLost(message.format(serial=self.serial))
        for pattern, message in REFUSED:
            if re.search(pattern, text):
                return RuntimeFailed(message.format(serial=self.serial, folder=self._folder))
        if any(pattern in text for pattern in SERVER):
            return _server_failure(done)
        lines = [line.strip() for line in text.splitlines() if line.strip() and not END.match(line)]
        said = f" (adb: {lines[-1][:200]})" if lines else ""
        if done.code in (0, 1, 255) and END.search(done.output) is None:
            return DeviceLost(f"the connection to the phone {self.serial} broke{said}: replug it and run again")
        return RuntimeFailed(f"the phone {self.serial} refused a command{said}: replug it and run again")


def _run(command: Sequence[str], patience: float, serial: str | None, limit: int = SAID_BYTES) -> Answer:
    try:
        done = run_bounded(command, patience, limit)
    except subprocess.TimeoutExpired as error:
        whom = f"the phone {serial}" if serial else "adb's server"
        remedy = "replug it and run again" if serial else "type: adb kill-server"
        raise DeviceLost(f"{whom} gave no answer within {patience:.0f} s: {remedy}") from error
    except OSError as error:
        raise RuntimeFailed(
            f"{command[0]} cannot be run: {error.strerror}; reinstall Android's platform-tools"
        ) from error
    output, errors = (text.decode(errors="replace").replace("\r\n", "\n") for text in (done.stdout, done.stderr))
    return Answer(done.returncode, output, errors)


def _server_failure(done: Answer) -> RuntimeFailed:
    lines = (done.errors or done.output).strip().splitlines()
    said = f" ({lines[-1][:200]})" if lines else ""
    return RuntimeFailed(f"adb's server does not answer{said}: type: adb kill-server, then try again")


def _state(text: str) -> str:
    """`no permissions (missing udev rules? ...)` -> `no permissions`"""
    words = text.strip()
    return "no permissions" if words.startswith("no permissions") else words.split()[0] if words else "unknown"
