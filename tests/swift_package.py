"""The Swift package HarnessCore, built for this machine once a session."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["HARNESS", "ROOT", "package_options", "swift_build", "swift_tool"]

ROOT = Path(__file__).parents[1]
HARNESS = ROOT / "ios_harness"


def swift_tool(name: str) -> str:
    """Path of `swift` or `swiftc`; where there is none the test is skipped, in CI it fails."""
    found = shutil.which(name)
    if found is None:
        needed = f"{name} is not installed; on Debian type: apt-get install swiftlang"
        if os.environ.get("CI"):
            pytest.fail(needed)
        pytest.skip(needed)
    return found


def package_options() -> list[str]:
    """Where the package is, and where its products go: outside of the sources."""
    scratch = os.environ.get("SWIFT_SCRATCH") or str(ROOT / "build" / "swift")
    return ["--package-path", str(HARNESS / "HarnessCore"), "--scratch-path", scratch]


def swift_build() -> Path:
    """The folder with everything that `swift build --build-tests` makes, whichever process comes first."""
    command = [swift_tool("swift"), "build", "--build-tests", "-j", "2", *package_options()]
    scratch = Path(command[-1])
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return scratch / "debug"
