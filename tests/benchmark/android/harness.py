"""The harness, built here for tests: once, however many processes the tests run in."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conversions import ROOT, files_digest, locked

__all__ = ["SOURCE", "build", "needs", "package_folder"]

SOURCE = ROOT / "android_harness"
PATIENCE_SECONDS = 580
PACKAGES = {
    "cmake": "cmake",
    "ninja": "ninja-build",
    "adb": "adb",
    "adbd": "adbd",
    "unshare": "util-linux",
    "ip": "iproute2",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "qemu-aarch64": "qemu-user",
}
HEADERS = {
    "/usr/include/nlohmann/json.hpp": "nlohmann-json3-dev",
    "/usr/include/doctest/doctest.h": "doctest-dev",
    "/usr/include/onnxruntime/onnxruntime_c_api.h": "libonnxruntime-dev",
}


def needs(*programs: str, headers: bool = True) -> None:
    """Skip where a tool is not installed and say how to install it; fail where CI is set: there nothing is skipped."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin" if "/usr/sbin" not in os.environ["PATH"] else ""
    missing = {PACKAGES[program] for program in programs if shutil.which(program) is None}
    missing |= {package for header, package in HEADERS.items() if headers and not Path(header).exists()}
    if not missing:
        return
    text = f"install what this test needs: apt-get install {' '.join(sorted(missing))}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def package_folder(name: str) -> Path:
    """The folder of an installed Python package."""
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.submodule_search_locations
    return Path(next(iter(found.submodule_search_locations)))


def build(preset: str, definitions: Callable[[], dict[str, str | Path]]) -> Path:
    """Build a preset of the sources as they are, or wait for whoever does, or take what is there; the build folder."""
    into = ROOT / "build" / "android" / preset
    with locked(into.with_suffix(".lock")):
        sources = files_digest(SOURCE)
        if not (into / "sources").exists() or (into / "sources").read_text() != sources:
            shutil.rmtree(into, ignore_errors=True)
            _build(preset, into, definitions())
            (into / "sources").write_text(sources)
        return into


def _build(preset: str, into: Path, definitions: dict[str, str | Path]) -> None:
    # In one piece and without optimization: a third of the time. What is timed is in the runtimes' own libraries.
    fast = {"CMAKE_BUILD_TYPE": "Debug", "CMAKE_UNITY_BUILD": "ON", "CMAKE_UNITY_BUILD_BATCH_SIZE": "0"}
    fast |= {"CMAKE_DISABLE_PRECOMPILE_HEADERS": "ON", "CMAKE_COMPILE_WARNING_AS_ERROR": "ON"}
    options = [f"-D{name}={value}" for name, value in (fast | definitions).items()]
    for command in (
        ["cmake", "--preset", preset, "-B", str(into), *options],
        ["cmake", "--build", str(into)],
    ):
        done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
