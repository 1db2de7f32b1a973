"""What devicectl's errors mean, and what to do about each: domains and codes, never their translated texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mobileclip_deploy.benchmark.bounded import one_line
from mobileclip_deploy.errors import RuntimeFailed

__all__ = ["CoreDeviceFailed", "NoSuchRemoteFile", "read_failure"]

CORE_DEVICE = "com.apple.dt.CoreDeviceError"
NO_FILE = (CORE_DEVICE, 7000)
LOCKED = "the device is locked; unlock it, leave its screen on, and run the command again"
TUNNEL = "the connection to the device broke; plug the cable in again, unlock the device, and run the command again"

# Looked for from the innermost error outwards: the outer ones only say which command failed.
REMEDIES: dict[tuple[str, int], str] = {
    ("FBSOpenApplicationErrorDomain", 7): LOCKED,
    ("FBSOpenApplicationErrorDomain", 3): (
        "the device does not trust the app's developer; on it, open Settings > General > VPN & Device Management, "
        "trust the developer, and run the command again"
    ),
    (
        "NSOSStatusErrorDomain",
        -10814,
    ): "the harness app is not on the device any more; run the command again, it installs it",
    ("com.apple.dt.RemotePairingError", 4): TUNNEL,
    ("NSPOSIXErrorDomain", 32): TUNNEL,  # EPIPE on macOS, and so below
    ("NSPOSIXErrorDomain", 54): TUNNEL,
    ("NSPOSIXErrorDomain", 57): TUNNEL,
    ("NSPOSIXErrorDomain", 60): TUNNEL,
    ("NSPOSIXErrorDomain", 28): "the device is full; free some storage on it, and run the command again",
    (CORE_DEVICE, 4): TUNNEL,
    (CORE_DEVICE, 1000): "there is no such device; `mobileclip-deploy devices` lists those within reach",
    (CORE_DEVICE, 3002): (
        "the app could not be installed; free some storage on the device, and look into its provisioning profile "
        "(a free team's expires after 7 days: build again)"
    ),
    (CORE_DEVICE, 12040): (
        "Xcode's developer disk image could not be mounted; connect the Mac to the internet, open Xcode once "
        "with the device unlocked, and run the command again"
    ),
}


class CoreDeviceFailed(RuntimeFailed):
    """devicectl told a failure. `broken`: the connection is gone, the app may still run."""

    def __init__(self, text: str, broken: bool = False) -> None:
        super().__init__(text)
        self.broken = broken


class NoSuchRemoteFile(CoreDeviceFailed):
    """The file is not on the device (yet)."""


def read_failure(failure: dict[str, Any], command: str) -> CoreDeviceFailed:
    """The exception for `error` of devicectl's JSON file; its text says what to do."""
    chain = list(_chain(failure))
    for error in reversed(chain):  # what lies beneath first: a timeout comes as a file that could not be retrieved
        if error in REMEDIES:
            return CoreDeviceFailed(REMEDIES[error], broken=REMEDIES[error] == TUNNEL)
    if NO_FILE in chain:
        return NoSuchRemoteFile(_described(failure, command))
    return CoreDeviceFailed(f"{_described(failure, command)}; docs/iphone.md lists what is known to go wrong")


def _chain(failure: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """(domain, code) of an error and of those that caused it, the cause last."""
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
    told = " ".join(one_line(str(text or "no description")).split()).rstrip(".")
    return one_line(f"devicectl {command} failed: {told} ({failure.get('domain')} {failure.get('code')})")
