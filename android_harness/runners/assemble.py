"""Builds the archive of ready runners: the harness by Debian's compiler, and the libraries it runs on.

python3 assemble.py                       fetches the runtimes' wheels, builds, writes dist/*.zip
python3 assemble.py --check               the same, and exit code 1 where it is not the archive that release.json names
python3 assemble.py --pin                 the same, and writes its size and SHA-256 into release.json
python3 assemble.py --machine x86_64      for an emulator on a PC, by this machine's own compiler

Needs Python 3.11 with pip, no package of Python's, and the packages of Debian's that build.sh names. The same sources
and the same packages of Debian's give the same bytes.
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
from typing import NamedTuple


class Machine(NamedTuple):
    """What the programs are built for: the preset, where its C library is, the loader there, and the tools' prefix."""

    name: str
    preset: str
    system: Path
    loader: str
    tools: str


MACHINES = {
    one.name: one
    for one in (
        Machine(
            "aarch64",
            "aarch64-linux",
            Path("/usr/aarch64-linux-gnu/lib"),
            "ld-linux-aarch64.so.1",
            "aarch64-linux-gnu-",
        ),
        Machine("x86_64", "host", Path("/lib/x86_64-linux-gnu"), "ld-linux-x86-64.so.2", ""),
    )
}
HERE = Path(__file__).resolve().parent
HARNESS = HERE.parent
RELEASE = HARNESS.parent / "mobileclip_deploy" / "benchmark" / "android" / "release.json"
"""What the toolkit fetches: version, size and SHA-256 of the archive."""
WHEELS = HERE / "wheels.txt"
PYTHON = "3.11"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
"""The proven versions have the first and the second; older ones have the others."""


class Runtime(NamedTuple):
    """A runtime's package on PyPI, and whether the programs are linked against it: one version and no other."""

    package: str
    linked: bool = False


RUNTIMES = {
    "onnxruntime": Runtime("onnxruntime"),
    "executorch": Runtime("executorch", linked=True),
    "litert": Runtime("ai-edge-litert"),
}
# ExecuTorch's libraries that no program of ours links.
LEFT_OUT = ("openvino", "qnn", "etdump")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", choices=sorted(MACHINES), default="aarch64")
    parser.add_argument("--into", type=Path, default=HARNESS.parent / "dist")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--pin", action="store_true")
    chosen = parser.parse_args()
    machine = MACHINES[chosen.machine]
    wheels = fetch(HARNESS / "build" / f"{machine.name}-wheels", machine.name)
    folder = HARNESS / "build" / f"{machine.name}-ready"
    assemble(build(wheels, machine), wheels, folder, machine)
    chosen.into.mkdir(parents=True, exist_ok=True)
    archive = pack(folder, chosen.into / archive_name(machine))
    built = {"bytes": archive.stat().st_size, "sha256": sha256(archive.read_bytes())}
    print(f"{archive}: {built['bytes']:,} bytes, SHA-256 {built['sha256']}")
    pinned = json.loads(RELEASE.read_text(encoding="utf-8"))
    if chosen.pin:
        RELEASE.write_text(json.dumps(pinned | built, indent=2) + "\n", encoding="utf-8")
    elif chosen.check and pinned != pinned | built:
        packages = json.loads((folder / "runners.json").read_text(encoding="utf-8"))["debian_packages"]
        sys.exit(
            f"release.json names {pinned['bytes']:,} bytes, SHA-256 {pinned['sha256']}: the sources changed, or "
            f"Debian's packages ({packages}); raise its version, run this with --pin, and commit release.json"
        )


def archive_name(machine: Machine) -> str:
    """The archive's file name; the toolkit expects the one for phones."""
    suffix = "" if machine.name == "aarch64" else f"-{machine.name}"
    return f"mobileclip-deploy-android-runners-{version()}{suffix}.zip"


def version() -> str:
    """The runners' own version."""
    return str(json.loads(RELEASE.read_text(encoding="utf-8"))["version"])


def pack(folder: Path, archive: Path) -> Path:
    """Pack a folder's files so that their bytes alone decide the archive's: no times, no compressor's version."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as opened:
        for file in sorted(folder.iterdir()):
            opened.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
    return archive


def fetch(into: Path, machine: str = "aarch64") -> Path:
    """The runtimes' wheels for a machine's Linux, by version and hash as wheels.txt names them; their folder."""
    shutil.rmtree(into, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [word for platform in PLATFORMS for word in ("--platform", f"{platform}_{machine}")]
    command += ["--python-version", PYTHON, "--dest", str(into), "--require-hashes", "--requirement", str(WHEELS)]
    subprocess.run(command, check=True)
    return into


def build(wheels: Path, machine: Machine) -> Path:
    """The harness for a machine's Linux, against ExecuTorch's wheel; the folder of its programs."""
    folder = HARNESS / "build" / f"{machine.name}-runners"
    sdk = folder / "sdk"
    shutil.rmtree(sdk, ignore_errors=True)
    with zipfile.ZipFile(wheel_of(wheels, "executorch")) as archive:
        archive.extractall(sdk)
    options = ["-DBUILD_TESTS=OFF", f"-DEXECUTORCH_ROOT={sdk / 'executorch'}", "-B", str(folder)]
    subprocess.run(["cmake", "--preset", machine.preset, *options], cwd=HARNESS, check=True)
    subprocess.run(["cmake", "--build", str(folder)], check=True)
    return folder / "bin"


def assemble(programs: Path, wheels: Path, into: Path, machine: Machine = MACHINES["aarch64"]) -> None:
    """Programs, stripped, and every library of the system that they or the runtimes need; and what all that is."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    for program in ("mobileclip-bench", *(f"mobileclip-bench-{runtime}" for runtime in RUNTIMES)):
        run(f"{machine.tools}strip", "-o", str(into / program), str(programs / program))
    described = [describe(wheels, runtime, machine) for runtime in sorted(RUNTIMES)]
    libraries: dict[str, bytes] = {}
    for wheel in described:
        with zipfile.ZipFile(wheels / str(wheel["file"])) as archive:
            libraries |= {name: archive.read(member) for member, name in dict(wheel["members"]).items()}  # type: ignore[call-overload]
    contained = [file.read_bytes() for file in into.iterdir()]
    contained += [content for content in libraries.values() if content.startswith(b"\x7fELF")]
    for name in system_libraries(contained, libraries, machine):
        shutil.copy(machine.system / name, into / name)
    packages = {
        package_of(machine.system / file.name) for file in into.iterdir() if (machine.system / file.name).exists()
    }
    for package in packages:
        shutil.copy(f"/usr/share/doc/{package}/copyright", into / f"copyright.{package}")
    contents = {
        "schema_version": 1,
        "version": version(),
        "machine": machine.name,
        "c_library": "glibc",
        "files": {file.name: sha256(file.read_bytes()) for file in sorted(into.iterdir())},
        "wheels": [{name: value for name, value in wheel.items() if name != "file"} for wheel in described],
        "debian_packages": {package: package_version(package) for package in sorted(packages)},
    }
    (into / "runners.json").write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")


def describe(wheels: Path, runtime: str, machine: Machine) -> dict[str, object]:
    """A runtime's wheel, and which of its files are needed under which name."""
    wheel = wheel_of(wheels, RUNTIMES[runtime].package)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    package = RUNTIMES[runtime].package
    if runtime == "litert":  # without its GPU library: that needs a Vulkan for glibc, which no phone has
        described = f"ai_edge_litert-{wheel.name.split('-')[1]}.dist-info/METADATA"
        members = {"ai_edge_litert/libLiteRt.so": "libLiteRt.so", described: "libLiteRt.so.metadata"}
    elif runtime == "onnxruntime":
        members = {name: "libonnxruntime.so" for name in names if name.startswith("onnxruntime/capi/libonnxruntime.so")}
    else:
        members = {
            name: Path(name).name
            for name in names
            if re.fullmatch(r"executorch/lib/libexecutorch\w*\.so", name) and not name.endswith(LEFT_OUT, 0, -3)
        }
    return {
        "runtime": runtime,
        **({} if package == runtime else {"package": package}),
        "version": wheel.name.split("-")[1],
        "linked": RUNTIMES[runtime].linked,
        "sha256": sha256(wheel.read_bytes()),
        "bytes": wheel.stat().st_size,
        "python": PYTHON,
        "platforms": [f"{one}_{machine.name}" for one in PLATFORMS],
        "members": members,
        "file": wheel.name,
    }


def wheel_of(wheels: Path, package: str) -> Path:
    (found,) = wheels.glob(f"{package.replace('-', '_')}-*.whl")
    return found


def system_libraries(contents: list[bytes], provided: dict[str, bytes], machine: Machine) -> list[str]:
    """What these files need and the machine's system has, and what that needs in turn."""
    found, queue = {machine.loader}, list(contents)
    while queue:
        for name in needed(queue.pop(), machine.tools):
            if name not in provided and name not in found:
                found.add(name)
                queue.append((machine.system / name).read_bytes())
    return sorted(found)


def needed(content: bytes, tools: str) -> list[str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return re.findall(r"\(NEEDED\)\s+Shared library: \[(.+?)\]", run(f"{tools}readelf", "-d", file.name))


def package_of(file: Path) -> str:
    """Debian's package of a file; its folder may be a link to where the package put it."""
    for path in (file, Path("/usr") / file.relative_to("/")):
        done = subprocess.run(["dpkg-query", "-S", str(path)], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.partition(":")[0]
    raise SystemExit(f"no package of Debian's has {file}")


def package_version(package: str) -> str:
    return run("dpkg-query", "-W", "-f", "${Version}", package)


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
