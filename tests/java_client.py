"""The Java package as its script builds it, and its own tests' programs beside it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conversions import ROOT
from programs import output

JAVA = ROOT / "clients" / "java"
APT = "apt-get install default-jdk-headless"


@dataclass(frozen=True)
class JavaClient:
    """`jar`: the package; `desktop`: the one for files; `tests`: their tests' classes; `java`, `javac`: programs."""

    jar: Path
    desktop: Path
    tests: Path
    java: str
    javac: str

    def run(
        self, main: str, *words: str | Path, more: tuple[Path, ...] = (), options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """A program of the package's tests, or another on the same class path; `options`: of Java's."""
        path = os.pathsep.join(map(str, (self.jar, self.desktop, self.tests, *more)))
        command = [
            self.java,
            "-Dfile.encoding=UTF-8",
            "-Dstdout.encoding=UTF-8",
            *options,
            "-cp",
            path,
            main,
            *map(str, words),
        ]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300)


def built(require_tool: Callable[[str, str], str], folder: Path) -> JavaClient:
    """Builds the jar by the package's own script, and compiles its tests against the jar alone."""
    java, javac = require_tool("java", APT), require_tool("javac", APT)
    output(JAVA / "build.sh", folder, timeout=300)
    client = JavaClient(folder / "mobileclip.jar", folder / "mobileclip-desktop.jar", folder / "tests", java, javac)
    sources = [str(path) for path in (JAVA / "test").rglob("*.java")]
    command = [
        javac,
        "--release",
        "8",
        "-Xlint:-options",
        "-cp",
        f"{client.jar}{os.pathsep}{client.desktop}",
        "-d",
        str(client.tests),
        *sources,
    ]
    subprocess.run(command, check=True, timeout=300)
    return client
