"""The Java package as its script builds it, and its own tests' programs beside it."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from conversions import ROOT
from programs import output

from mobileclip_deploy.artifacts.bundle import Bundle

JAVA = ROOT / "clients" / "java"
APT = "apt-get install default-jdk-headless"
FETCHED = ROOT / "build" / "kotlin"
PACKAGE = "pyserini==1.6.0"
"""One of PyPI's packages, which carries com.microsoft.onnxruntime for desktops (1.17), within a larger jar."""


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


def onnxruntime() -> Path:
    """ONNX Runtime's Java classes and their native half for this machine, fetched once: a jar."""
    found = FETCHED / "onnxruntime.jar"
    if not found.exists():
        folder = FETCHED / "download"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", "-d", folder]
        subprocess.run([*command, PACKAGE], check=True, timeout=500)
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as opened:
            (member,) = [one for one in opened if one.name.endswith("-fatjar.jar")]
            member.name = "all.jar"
            opened.extract(member, folder, filter="data")
        kept = re.compile(r"ai/onnxruntime/(?!native/).*\.class|ai/onnxruntime/native/linux-.*\.so")
        with zipfile.ZipFile(folder / "all.jar") as whole, zipfile.ZipFile(folder / "part.jar", "w") as part:
            for name in filter(kept.fullmatch, whole.namelist()):
                part.writestr(name, whole.read(name))
        (folder / "part.jar").replace(found)
        shutil.rmtree(folder)
    return found


def readable_by_1_17(bundle: Bundle, folder: Path) -> Path:
    """A copy of an ONNX bundle in float32 that those classes' runtime reads; of what is newer float32 has nothing."""
    shutil.copytree(bundle.path, folder)
    for file in folder.glob("onnx/*.onnx"):
        model = onnx.load(file)
        model.ir_version = 9
        onnx.save(model, file)
    return folder
