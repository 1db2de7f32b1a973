"""Fills mobileclip_deploy_android/files: the harness built by Debian's cross compiler, and the libraries it runs on.

python assemble.py                                  fetches the runtimes' wheels, builds, and fills the folder
python assemble.py --programs FOLDER --wheels FOLDER --into FOLDER    of what is built and fetched already

It needs what android_harness/README.md lists, and mobileclip_deploy, whose targets say which versions are proven.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
HARNESS = HERE.parent
SYSTEM = Path("/usr/aarch64-linux-gnu/lib")
TOOLS = "aarch64-linux-gnu-"
LOADER = "ld-linux-aarch64.so.1"
PYTHON = "3.11"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
"""The first is the proven versions'; older ones have the others."""
RUNTIMES = {"onnxruntime": "onnx", "executorch": "executorch"}
"""Package, runtime -> the target that says which version is proven."""
LINKED = ("executorch",)
"""Runtimes that the programs are linked against: that version and no other."""
# ExecuTorch's libraries that no program of ours links.
LEFT_OUT = ("openvino", "etdump")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--into", type=Path, default=HERE / "mobileclip_deploy_android" / "files")
    chosen = parser.parse_args()
    wheels = chosen.wheels or fetch(HARNESS / "build" / "aarch64-wheels")
    assemble(chosen.programs or build(wheels), wheels, chosen.into)
    megabytes = sum(file.stat().st_size for file in chosen.into.iterdir()) / 1e6
    print(f"{chosen.into}: {len(list(chosen.into.iterdir()))} files, {megabytes:.1f} MB", file=sys.stderr)


def fetch(into: Path) -> Path:
    """The runtimes' wheels for 64-bit ARM Linux, from PyPI, in the versions that are proven."""
    from mobileclip_deploy.targets import get_target

    wanted = [f"{name}=={get_target(target).proven[name]}" for name, target in RUNTIMES.items()]
    shutil.rmtree(into, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", PYTHON, "--platform", PLATFORMS[0], "--dest", str(into), *wanted]
    subprocess.run(command, check=True)
    return into


def build(wheels: Path) -> Path:
    """The harness for 64-bit ARM Linux, against ExecuTorch's wheel; the folder of its programs."""
    folder = HARNESS / "build" / "aarch64-runners"
    sdk = folder / "sdk"
    shutil.rmtree(sdk, ignore_errors=True)
    with zipfile.ZipFile(wheel_of(wheels, "executorch")) as archive:
        archive.extractall(sdk)
    options = ["-DBUILD_TESTS=OFF", f"-DEXECUTORCH_ROOT={sdk / 'executorch'}", "-B", str(folder)]
    subprocess.run(["cmake", "--preset", "aarch64-linux", *options], cwd=HARNESS, check=True)
    subprocess.run(["cmake", "--build", str(folder)], check=True)
    return folder / "bin"


def assemble(programs: Path, wheels: Path, into: Path) -> None:
    """Programs, stripped, and every library of the system that they or the runtimes need; and what all that is."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for program in ("mobileclip-bench", *(f"mobileclip-bench-{runtime}" for runtime in RUNTIMES)):
        run(f"{TOOLS}strip", "-o", str(into / program), str(programs / program))
    described = [describe(wheels, runtime) for runtime in sorted(RUNTIMES)]
    libraries: dict[str, bytes] = {}
    for wheel in described:
        with zipfile.ZipFile(wheels / str(wheel["file"])) as archive:
            libraries |= {name: archive.read(member) for member, name in dict(wheel["members"]).items()}  # type: ignore[call-overload]
    for name in system_libraries([file.read_bytes() for file in into.iterdir()] + list(libraries.values()), libraries):
        shutil.copy(SYSTEM / name, into / name)
    packages = {package_of(file) for file in into.iterdir() if (SYSTEM / file.name).exists()}
    for package in packages:
        shutil.copy(f"/usr/share/doc/{package}/copyright", into / f"copyright.{package}")
    version = re.search(r'^version = "([^"]+)"$', (HARNESS.parent / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    contents = {
        "schema_version": 1,
        "version": version[1],
        "machine": "aarch64",
        "c_library": "glibc",
        "files": {file.name: sha256(file.read_bytes()) for file in sorted(into.iterdir())},
        "wheels": [{name: value for name, value in wheel.items() if name != "file"} for wheel in described],
        "debian_packages": {package: package_version(package) for package in sorted(packages)},
    }
    (into / "runners.json").write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")


def describe(wheels: Path, runtime: str) -> dict[str, object]:
    """A runtime's wheel, and which of its files are needed under which name."""
    wheel = wheel_of(wheels, runtime)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    if runtime == "onnxruntime":
        members = {name: "libonnxruntime.so" for name in names if name.startswith("onnxruntime/capi/libonnxruntime.so")}
    else:
        members = {
            name: Path(name).name
            for name in names
            if re.fullmatch(r"executorch/lib/libexecutorch\w*\.so", name) and not name.endswith(LEFT_OUT, 0, -3)
        }
    return {
        "runtime": runtime,
        "version": wheel.name.split("-")[1],
        "linked": runtime in LINKED,
        "sha256": sha256(wheel.read_bytes()),
        "bytes": wheel.stat().st_size,
        "python": PYTHON,
        "platforms": PLATFORMS,
        "members": members,
        "file": wheel.name,
    }


def wheel_of(wheels: Path, package: str) -> Path:
    (found,) = wheels.glob(f"{package}-*.whl")
    return found


def system_libraries(contents: list[bytes], provided: dict[str, bytes]) -> list[str]:
    """What these files need and the system of the cross compiler has, and what that needs in turn."""
    found, queue = {LOADER}, list(contents)
    while queue:
        for name in needed(queue.pop()):
            if name not in provided and name not in found:
                found.add(name)
                queue.append((SYSTEM / name).read_bytes())
    return sorted(found)


def needed(content: bytes) -> list[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return re.findall(r"\(NEEDED\)\s+Shared library: \[(.+?)\]", run(f"{TOOLS}readelf", "-d", file.name))


def package_of(file: Path) -> str:
    return run("dpkg-query", "-S", str(SYSTEM / file.name)).partition(":")[0]


def package_version(package: str) -> str:
    return run("dpkg-query", "-W", "-f", "${Version}", package)


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
