"""The Swift packages of ios_harness, built for this machine when their sources have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conversions import ROOT, files_digest, locked

__all__ = ["HARNESS", "package_options", "swift_build", "swift_tool"]

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


def package_options(package: str = "HarnessCore") -> list[str]:
    """Where a package is, and where its products go: outside of the sources, of all packages into one folder, so that
    what one has built another that depends on it does not build again."""
    return ["--package-path", str(HARNESS / package), "--scratch-path", str(ROOT / "build" / "swift" / "tests")]


def swift_build(package: str, *options: str) -> Path:
    """The folder with what `swift build` makes of a package, whichever process comes first."""
    command = [swift_tool("swift"), "build", *options, "-j", "2", *package_options(package)]
    scratch = Path(command[-1])
    with locked(scratch / ".lock"):
        sources, built = files_digest(HARNESS), scratch / f".sources-{package}"
        if not built.exists() or built.read_text() != sources:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
            built.write_text(sources)
    return scratch / "debug"
