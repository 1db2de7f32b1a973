"""Access to phones by the adb command line. Quotes words for a phone's shell; errors are one line with a remedy."""

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
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.benchmark.bounded import SAID_BYTES, run_bounded
from mobileclip_deploy.errors import RuntimeFailed

PATIENCE_SECONDS = 60
PULL_SECONDS = 600
LOOK_SECONDS = 1.0
SLOWEST = 4_000
"""Bytes per second of a connection before its first push was timed. Even a tunnel to another continent is faster."""
PROBE_BYTES = 256 << 10
SLOWER = 5
"""Factor of the time that the last push's rate predicts; a push that takes longer counts as hung."""
END = re.compile(r"mobileclip-shell-ended (\d+)\s*\Z")

STATES = {
    "unauthorized": "unlock the phone and accept 'Allow USB debugging'; if no dialog appears, replug it",
    "authorizing": "unlock the phone and accept 'Allow USB debugging'",
    "offline": "replug the phone, or type: adb reconnect offline",
    "connecting": "wait a moment, then try again",
    "no permissions": "this user may not use USB devices: install android-sdk-platform-tools-common, then replug",
    "recovery": "start the phone into Android: adb reboot",
    "sideload": "start the phone into Android: adb reboot",
    "bootloader": "start the phone into Android: fastboot reboot",
}

# Pattern in adb's output -> error text. The first pattern that matches counts; {serial} is the phone's.
LOST = (
    ("not found|no devices", "the phone {serial} is disconnected: replug it and check `mobileclip-deploy devices`"),
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
    """Error of a phone that can no longer be reached."""


@dataclass(frozen=True)
class ShellResult:
    """Exit code and output of a command on the phone."""

    code: int
    output: str
    errors: str = ""


def find_adb() -> str:
    """Returns the path of the adb program: on PATH, else in an Android SDK.

    The SDK's folder is in ANDROID_HOME or ANDROID_SDK_ROOT, or it is Android Studio's.

    Raises:
        RuntimeFailed: adb is not installed; the error says how to get it.
    """
    on_path = shutil.which("adb")
    homes = [os.environ.get(name) for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")]
    folders = [Path(home) for home in homes if home] + studio_folders()
    programs = ("adb", "adb.exe")  # the second is Windows', which WSL starts too
    candidates = [on_path, *(str(folder / "platform-tools" / name) for folder in folders for name in programs)]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise RuntimeFailed(
        "adb is not installed: install Android's platform-tools (Debian: apt-get install adb; macOS: brew install "
        "android-platform-tools; Windows: winget install Google.PlatformTools) and put adb on PATH"
    )


def studio_folders() -> list[Path]:
    """Returns the folders of Android Studio's SDK on a Mac, on Linux and on Windows."""
    local = os.environ.get("LOCALAPPDATA")
    mac_and_linux = [Path.home() / "Library" / "Android" / "sdk", Path.home() / "Android" / "Sdk"]
    return [*mac_and_linux, *([Path(local) / "Android" / "Sdk"] if local else [])]


def listed_devices() -> tuple[tuple[str, str], ...]:
    """Returns serial number and state of all devices that adb lists.

    Raises:
        RuntimeFailed: adb is not installed, or its server does not answer.
    """
    done = _run([find_adb(), "devices"], PATIENCE_SECONDS, None)
    if done.code != 0:
        raise _server_failure(done)
    rows = done.output.partition("List of devices attached")[2].splitlines()
    pairs = (row.split("\t", 1) for row in rows if "\t" in row)
    return tuple((serial.strip(), _state(state)) for serial, state in pairs)


def is_back(serial: str, seconds: float) -> bool:
    """Waits for a lost phone, and returns whether the phone is ready in time. Reconnects a phone in the network."""
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
    """Returns the remedy for a device in this state. None if the device is ready."""
    if state == "device":
        return None
    return STATES.get(state, f"adb reports {state!r}: replug the phone")


def quoted(*words: str) -> str:
    """Returns the words quoted for a POSIX shell."""
    return " ".join(shlex.quote(word) for word in words)


class Adb:
    """One phone. `folder` is this project's folder on the phone; it is used in error texts only.

    Methods that reach the phone raise DeviceLost if the phone is lost, and RuntimeFailed if it is full or refuses.
    """

    def __init__(self, serial: str, folder: str) -> None:
        self.serial, self._folder = serial, folder
        self._program = find_adb()
        self._rate: float | None = None

    def command(self, *words: str) -> list[str]:
        """Returns an adb command line for this phone, for `subprocess` without a shell on this computer."""
        return [self._program, "-s", self.serial, *words]

    def shell(self, script: str, patience: float = PATIENCE_SECONDS, limit: int = SAID_BYTES) -> ShellResult:
        """Runs a script in the phone's shell. Every part that is not constant has gone through `quoted`.

        Refuses more than `limit` bytes of output.
        """
        # adb's exit code is 1 or 255 for a lost connection and for a command that failed: this line distinguishes them.
        words = self.command("shell", f"({script}\n); echo mobileclip-shell-ended $?")
        done = _run(words, patience, self.serial, limit)
        end = END.search(done.output)
        if end is None:
            raise self.failure(done)
        return ShellResult(int(end[1]), done.output[: end.start()], done.errors)

    def demand(self, script: str, patience: float = PATIENCE_SECONDS, limit: int = SAID_BYTES) -> str:
        """Runs a script as `shell` does, and returns its output. Raises an error if the script fails."""
        answer = self.shell(script, patience, limit)
        if answer.code != 0:
            raise self.failure(answer)
        return answer.output

    def push(self, local: Path, remote: str) -> None:
        """Copies a file, or a folder to a path that does not exist. After an error a part of it may be on the phone.

        No shell reads `remote`, so it is not quoted.
        """
        size = artifact_bytes(local)
        if self._rate is None and size > PROBE_BYTES:
            self._push_probe(remote)
        rate = SLOWEST if self._rate is None else self._rate / SLOWER
        self._push(local, remote, PATIENCE_SECONDS + size / rate)

    def _push_probe(self, remote: str) -> None:
        """Times a push of `PROBE_BYTES` random bytes, which do not compress, to a file next to `remote`."""
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
        """Copies a file or a folder from the phone."""
        done = _run(self.command("pull", remote, str(local.resolve())), PULL_SECONDS, self.serial)
        if done.code != 0:
            raise self.failure(done)

    def failure(self, done: ShellResult) -> RuntimeFailed:
        """Returns the error for a failed command of adb or of the phone, from its output."""
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
        detail = f" (adb: {lines[-1][:200]})" if lines else ""
        if done.code in (0, 1, 255) and END.search(done.output) is None:
            return DeviceLost(f"the connection to the phone {self.serial} broke{detail}: replug it and run again")
        return RuntimeFailed(f"the phone {self.serial} refused a command{detail}: replug it and run again")


def _run(command: Sequence[str], patience: float, serial: str | None, limit: int = SAID_BYTES) -> ShellResult:
    try:
        done = run_bounded(command, patience, limit)
    except subprocess.TimeoutExpired as error:
        whom = f"the phone {serial}" if serial else "adb's server"
        remedy = "replug it and run again" if serial else "type: adb kill-server"
        raise DeviceLost(f"{whom} did not respond within {patience:.0f} s: {remedy}") from error
    except OSError as error:
        raise RuntimeFailed(
            f"{command[0]} cannot be run: {error.strerror}; reinstall Android's platform-tools"
        ) from error
    output, errors = (text.decode(errors="replace").replace("\r\n", "\n") for text in (done.stdout, done.stderr))
    return ShellResult(done.returncode, output, errors)


def _server_failure(done: ShellResult) -> RuntimeFailed:
    lines = (done.errors or done.output).strip().splitlines()
    detail = f" ({lines[-1][:200]})" if lines else ""
    return RuntimeFailed(f"adb's server does not respond{detail}: type: adb kill-server, then try again")


def _state(text: str) -> str:
    """Returns the state without its explanation: `no permissions (missing udev rules? ...)` -> `no permissions`."""
    words = text.strip()
    return "no permissions" if words.startswith("no permissions") else words.split()[0] if words else "unknown"
