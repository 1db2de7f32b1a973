"""Calls of `xcrun devicectl`. Reads the JSON file of a call, and raises its failure as a typed error with a remedy.

Failures are recognized by domain and code, never by their translated texts. stdout, which has tables, is not read.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobileclip_deploy.base.files import read_json
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.benchmark.bounded import SAID_BYTES, one_line, parsing_device_output, run_bounded
from mobileclip_deploy.errors import InvalidInput, RuntimeFailed

# devicectl refuses less than 5. Its own limit ends before ours, so that it can still write the reason.
SECONDS = 60
GRACE = 30
USAGE = 64
"""devicectl's exit code for unknown arguments: EX_USAGE of sysexits, as in swift-argument-parser."""
CORE_DEVICE = "com.apple.dt.CoreDeviceError"
NO_FILE = (CORE_DEVICE, 7000)
LOCKED = "the device is locked; unlock it, leave its screen on, and run the command again"
TUNNEL = "the connection to the device broke; plug the cable in again, unlock the device, and run the command again"

# Searched from the innermost error outwards, since the outer errors only name the failed command.
DEVELOPER_MODE = (
    "on the device switch Settings > Privacy & Security > Developer Mode on; it restarts. If there is no such switch, "
    "connect the device to a Mac by cable and open Xcode there once: it then appears"
)
REMEDIES: dict[tuple[str, int], str] = {
    ("FBSOpenApplicationErrorDomain", 7): LOCKED,
    ("FBSOpenApplicationErrorDomain", 3): (
        "the device does not trust the app's developer; on the device, open Settings > General > VPN & Device "
        "Management, trust the developer, and run the command again"
    ),
    (
        "NSOSStatusErrorDomain",
        -10814,
    ): "the harness app is no longer on the device; run the command again, which installs it",
    ("com.apple.dt.RemotePairingError", 4): TUNNEL,
    ("NSPOSIXErrorDomain", 32): TUNNEL,  # EPIPE on macOS, and so below
    ("NSPOSIXErrorDomain", 49): TUNNEL,  # sometimes reported by others: dotnet/runtime#123796
    ("NSPOSIXErrorDomain", 54): TUNNEL,
    ("NSPOSIXErrorDomain", 57): TUNNEL,
    ("NSPOSIXErrorDomain", 60): TUNNEL,
    ("NSPOSIXErrorDomain", 28): "the device is full; free some storage on it, and run the command again",
    (CORE_DEVICE, 4): TUNNEL,
    (CORE_DEVICE, 1000): "unknown device; `mobileclip-deploy devices` lists those within reach",
    (CORE_DEVICE, 3002): (
        "the app could not be installed; free some storage on the device, and check the app's provisioning profile (a "
        "free team's expires after 7 days: build again)"
    ),
    (CORE_DEVICE, 12040): (
        "Xcode's developer disk image could not be mounted; if the device's iOS is newer than this Xcode, update "
        "Xcode; otherwise switch Settings > Privacy & Security > Developer Mode on, connect the Mac to the internet, "
        "open Xcode once with the device unlocked, and run the command again"
    ),
}


class CoreDeviceFailed(RuntimeFailed):
    """Failure that devicectl reported. `broken`: True if the connection is lost; the app may still run."""

    def __init__(self, text: str, broken: bool = False) -> None:
        super().__init__(text)
        self.broken = broken


class NoSuchRemoteFile(CoreDeviceFailed):
    """Error of a file that is not on the device (yet)."""


class UnknownCommand(RuntimeFailed):
    """Error of a command that this Xcode's devicectl does not have."""


def devicectl(*arguments: str, then: tuple[str, ...] = (), seconds: int = SECONDS) -> dict[str, Any]:
    """Calls devicectl.

    Args:
        arguments: the command and its options.
        then: arguments that must follow all options (a bundle id, an app's own arguments).
        seconds: time limit of devicectl.

    Returns:
        `result` of its JSON file.

    Raises:
        NoSuchRemoteFile: a requested file is not on the device.
        UnknownCommand: devicectl is older than the command.
        CoreDeviceFailed: any other failure that devicectl reports.
        RuntimeFailed: devicectl is not installed, or it failed without a report.
    """
    with temporary_folder() as folder:
        answer = folder / "answer.json"
        command = ["xcrun", "devicectl", *arguments, "--timeout", str(seconds), "--json-output", str(answer), *then]
        name = " ".join(arguments[:3])
        try:
            done = run_bounded(command, seconds + GRACE)
        except FileNotFoundError:
            raise RuntimeFailed(
                "xcrun is missing; an iPhone needs a Mac with Xcode 16 or newer: run this there (docs/devices.md)"
            ) from None
        except subprocess.TimeoutExpired:
            raise RuntimeFailed(
                f"devicectl {name} did not respond within {seconds + GRACE} s; unplug the device, plug it in, unlock it"
            ) from None
        document = _read(answer)
    failure = document.get("error")
    if isinstance(failure, dict):
        with parsing_device_output("devicectl"):
            error = read_failure(failure, name)
        raise error
    if done.returncode == USAGE:
        raise UnknownCommand(f"this Xcode's devicectl does not know {name}; update Xcode")
    result = document.get("result")
    if done.returncode != 0 or not isinstance(result, dict):
        last_line = one_line((done.stderr.decode(errors="replace").strip().splitlines() or ["nothing on stderr"])[-1])
        raise RuntimeFailed(
            f"devicectl {name} failed without a reason (exit {done.returncode}: {last_line}); check that `xcode-select "
            "-p` names an Xcode, not only the command line tools"
        )
    return result


def _read(file: Path) -> dict[str, Any]:
    try:
        document = read_json(file, SAID_BYTES)
    except (OSError, ValueError, InvalidInput):
        return {}
    return document if isinstance(document, dict) else {}


def read_failure(failure: dict[str, Any], command: str) -> CoreDeviceFailed:
    """Returns the exception for `error` of devicectl's JSON file. The exception's text has a remedy."""
    chain = list(_chain(failure))
    for error in reversed(chain):  # the cause first: a timeout is wrapped as a file that could not be retrieved
        if error in REMEDIES:
            return CoreDeviceFailed(REMEDIES[error], broken=REMEDIES[error] == TUNNEL)
    if NO_FILE in chain:
        return NoSuchRemoteFile(_described(failure, command))
    return CoreDeviceFailed(f"{_described(failure, command)}; docs/devices.md lists known problems")


def _chain(failure: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yields (domain, code) of an error and of the errors that caused it. The cause is last."""
    domain, code = failure.get("domain"), failure.get("code")
    if isinstance(domain, str) and isinstance(code, int):
        yield domain, code
    information = failure.get("userInfo")
    underlying = information.get("NSUnderlyingError") if isinstance(information, dict) else None
    if isinstance(underlying, dict):
        cause = underlying.get("error", underlying)
        if isinstance(cause, dict):
            yield from _chain(cause)


def _described(failure: dict[str, Any], command: str) -> str:
    information = failure.get("userInfo")
    described = information.get("NSLocalizedDescription") if isinstance(information, dict) else None
    text = described.get("string") if isinstance(described, dict) else None
    sentence = " ".join(one_line(str(text or "no description")).split()).rstrip(".")
    return one_line(f"devicectl {command} failed: {sentence} ({failure.get('domain')} {failure.get('code')})")
