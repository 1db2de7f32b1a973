"""The harness, built here for tests: once, however many processes the tests run in."""

import importlib.metadata
import importlib.util
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from building import ROOT, files_digest, locked
from conversions import installed
from programs import loaded, missing, output

from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.targets.litert import gpu

SOURCE = ROOT / "android_harness"
WHEELS = ROOT / "build" / "android" / "aarch64-wheels"
"""The runtimes' wheels for 64-bit ARM Linux."""
PATIENCE_SECONDS = 580
PROGRAMS = ["mobileclip-bench", *(f"mobileclip-bench-{runtime}" for runtime in ("onnxruntime", "executorch", "litert"))]
"""What is built at first; its unit tests are as much again."""
PACKAGES = {
    "cmake": "cmake",
    "ninja": "ninja-build",
    "adb": "adb",
    "adbd": "adbd",
    "mksh": "mksh",
    "toybox": "toybox",
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
    """Skip where a tool is not installed and say how to install it; fail where CI is set: there nothing is skipped but
    what needs namespaces, for a change that is proposed (.github/workflows/linux.yml)."""
    if "unshare" in programs and os.environ.get("WITHOUT_NAMESPACES"):
        pytest.skip("needs namespaces of its own, which a container without privileges has not")
    os.environ["PATH"] += os.pathsep + "/usr/sbin" if "/usr/sbin" not in os.environ["PATH"] else ""
    absent = {PACKAGES[program] for program in programs if shutil.which(program) is None}
    absent |= {package for header, package in HEADERS.items() if headers and not Path(header).exists()}
    if absent:
        missing(f"install what this test needs: apt-get install {' '.join(sorted(absent))}")


def software_vulkan() -> str:
    """The file that names Mesa's driver for machines without a GPU."""
    try:
        return str(gpu.software_vulkan())
    except NotRun as error:
        missing(str(error))


def package_folder(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found.submodule_search_locations
    return Path(next(iter(found.submodule_search_locations)))


def build(preset: str, definitions: Callable[[], dict[str, str | Path]]) -> Path:
    """Build a preset of the sources as they are, or wait for whoever does, or take what is there; the build folder.

    Args:
        preset: what is built.
        definitions: what it is configured with, asked for when it is built.
    """
    into = ROOT / "build" / "android" / preset
    with locked(into.with_suffix(".lock")):
        sources, built = files_digest(SOURCE, packages=installed()), into / "sources"
        if not built.exists() or built.read_text() != sources:
            shutil.rmtree(into, ignore_errors=True)
            _build(preset, into, definitions())
            built.write_text(sources)
        return into


def _build(preset: str, into: Path, definitions: dict[str, str | Path]) -> None:
    # In one piece, without optimization or words for a debugger, and with memory to spare for the compiler: less than
    # a quarter of the time. What is timed is in the runtimes' own libraries.
    fast = {"CMAKE_BUILD_TYPE": "Debug", "CMAKE_UNITY_BUILD": "ON", "CMAKE_UNITY_BUILD_BATCH_SIZE": "0"}
    fast |= {"CMAKE_CXX_FLAGS_DEBUG": "--param ggc-min-expand=400 --param ggc-min-heapsize=1000000"}
    fast |= {"CMAKE_DISABLE_PRECOMPILE_HEADERS": "ON", "CMAKE_COMPILE_WARNING_AS_ERROR": "ON"}
    options = [f"-D{name}={value}" for name, value in (fast | definitions).items()]
    for command in (
        ["cmake", "--preset", preset, "-B", str(into), *options],
        ["cmake", "--build", str(into), "--target", *PROGRAMS],
    ):
        output(*command, cwd=SOURCE, timeout=PATIENCE_SECONDS)


def unit_tests(built: Path) -> str:
    """What the unit tests of a build print; they have to pass."""
    for command in (
        ["cmake", "--build", str(built), "--target", "unit-tests"],
        ["ctest", "--test-dir", str(built), "--output-on-failure"],
    ):
        printed = output(*command, timeout=PATIENCE_SECONDS)
    return printed


def version(package: str) -> str:
    """As the wheel's own library says it; of ExecuTorch the file that its CMake package reads, of LiteRT the wheel."""
    if package == "onnxruntime":
        import onnxruntime

        return str(onnxruntime.__version__)
    if package == "litert":
        return importlib.metadata.version("ai-edge-litert")
    file = package_folder("executorch") / "share/cmake/executorch-config-version.cmake"
    (line,) = [line for line in file.read_text().splitlines() if line.startswith("set(EXECUTORCH_BUILD_VERSION")]
    return line.split('"')[1]


def assembling() -> Any:
    """What fills the package of ready runners (android_harness/runners/assemble.py)."""
    return loaded(SOURCE / "runners" / "assemble.py")


def arm_libraries() -> dict[str, str | Path]:
    """An AAR with the library of ONNX Runtime's aarch64 wheel, and ExecuTorch's and LiteRT's wheels."""
    assembling().fetch(WHEELS)
    for wheel in WHEELS.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(WHEELS)
    (onnxruntime,) = (WHEELS / "onnxruntime/capi").glob("libonnxruntime.so.*")
    aar = WHEELS / "onnxruntime-android.aar"
    with zipfile.ZipFile(aar, "w") as archive:
        archive.write(onnxruntime, "jni/arm64-v8a/libonnxruntime.so")
        for header in Path("/usr/include/onnxruntime").glob("*.h"):
            archive.write(header, f"headers/{header.name}")
    roots = {"EXECUTORCH_ROOT": WHEELS / "executorch", "LITERT_ROOT": WHEELS / "ai_edge_litert"}
    return {"ONNXRUNTIME_AAR": aar} | roots


def wheels_of_this_machine(into: Path) -> Path:
    """Wheels with the runtimes' libraries that are installed here, as PyPI would have them; their folder."""
    files: dict[str, dict[str, bytes]] = {}
    for name, pattern in (
        ("onnxruntime", "capi/libonnxruntime.so.*"),
        ("executorch", "lib/libexecutorch*.so"),
        ("ai_edge_litert", "libLiteRt.so"),
    ):
        folder = package_folder(name)
        files[name] = {f"{name}/{file.relative_to(folder)}": file.read_bytes() for file in folder.glob(pattern)}
    for name, content in files.items():
        wheel(name, importlib.metadata.version(name), into, content, machine="x86_64")
    return into


def wheel(name: str, version: str, into: Path, content: dict[str, bytes], machine: str = "aarch64") -> None:
    """Write a wheel for a machine's Linux, as old as its tag says."""
    into.mkdir(exist_ok=True)
    with zipfile.ZipFile(into / f"{name}-{version}-cp311-cp311-manylinux_2_17_{machine}.whl", "w") as archive:
        described = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
        tags = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_17_{machine}\n".encode()
        for member, data in (content | {f"{described}/METADATA": metadata, f"{described}/WHEEL": tags}).items():
            archive.writestr(member, data)
