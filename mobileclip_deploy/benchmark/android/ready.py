"""Ready-made runners: the programs of the package `mobileclip-deploy-android`, with runtimes from PyPI's wheels.

The programs are built against glibc, and bring it along. The runtimes' libraries are taken out of the wheels for 64-bit
ARM Linux that the package names by hash, the first time that a phone needs them, and kept.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from mobileclip_deploy.benchmark.android.programs import PLAN, runner
from mobileclip_deploy.benchmark.cache import cache_folder
from mobileclip_deploy.benchmark.job import Frozen, Identifier, Sha256
from mobileclip_deploy.errors import RuntimeFailed, first_problem
from mobileclip_deploy.files import file_sha256, replacing
from mobileclip_deploy.progress import Progress

__all__ = ["Contents", "Wheel", "package_folder", "ready_runners"]

PACKAGE = "mobileclip_deploy_android"
PIP_SECONDS = 900
INDEX = "files.json"


class Wheel(Frozen):
    """A runtime's wheel for the phone, and which of its files are pushed under which names."""

    runtime: Identifier
    version: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+]*$")]
    sha256: Sha256
    python: str
    platform: str
    members: dict[str, Identifier]


class Contents(Frozen):
    """runners.json of the package: its files with their SHA-256, and the wheels."""

    schema_version: Literal[1]
    version: str
    machine: Literal["aarch64"]
    c_library: Literal["glibc"]
    files: dict[str, Sha256]
    wheels: tuple[Wheel, ...]
    debian_packages: dict[str, str]


def package_folder() -> Path | None:
    """The files of the installed package; None where it is not installed."""
    try:
        folder: Path = importlib.import_module(PACKAGE).FOLDER
    except ImportError:
        return None
    return folder


def ready_runners(folder: Path, runtimes: frozenset[str], progress: Progress) -> tuple[Path, ...]:
    """The package's programs and libraries that these runtimes need, and the runtimes' own.

    Args:
        folder: see `package_folder`.

    Raises:
        RuntimeFailed: a runtime is not among them, a file is damaged, or a wheel cannot be had.
    """
    contents = _contents(folder)
    wheels = {wheel.runtime: wheel for wheel in contents.wheels}
    unknown = sorted(runtimes - wheels.keys())
    if unknown:
        raise RuntimeFailed(
            f"the ready runners for Android phones are for {', '.join(sorted(wheels))}, not {unknown[0]}"
        )
    programs = {PLAN, *(runner(runtime) for runtime in runtimes)}
    libraries = {name for name in contents.files if ".so" in name}
    damaged = [name for name in programs | libraries if not _is_whole(folder / name, contents.files.get(name))]
    if damaged:
        raise RuntimeFailed(
            f"{folder / sorted(damaged)[0]} is missing or damaged: type pip install --force-reinstall "
            "mobileclip-deploy-android"
        )
    own = tuple(folder / name for name in sorted(programs | libraries))
    return own + tuple(file for name in sorted(runtimes) for file in _libraries(wheels[name], progress))


def _contents(folder: Path) -> Contents:
    file = folder / "runners.json"
    try:
        return Contents.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error.strerror
        raise RuntimeFailed(
            f"{file} cannot be used ({reason}): type pip install --force-reinstall mobileclip-deploy-android"
        ) from error


def _libraries(wheel: Wheel, progress: Progress) -> tuple[Path, ...]:
    """A wheel's libraries, from the cache, or fetched now."""
    folder = cache_folder("android-runners") / f"{wheel.runtime}-{wheel.version}-{wheel.sha256[:16]}"
    if not _is_complete(folder, wheel):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as place:
            progress(f"fetching {wheel.runtime} {wheel.version} for the phone from PyPI")
            archive = _fetch(wheel, Path(place))
            progress(f"unpacking {wheel.runtime} {wheel.version}")
            with replacing(folder) as partial:
                _unpack(archive, wheel, partial)
    return tuple(folder / name for name in sorted(wheel.members.values()))


def _fetch(wheel: Wheel, place: Path) -> Path:
    wanted = place / "requirements.txt"
    wanted.write_text(f"{wheel.runtime}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", wheel.python, "--platform", wheel.platform]
    command += ["--dest", str(place), "--requirement", str(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise RuntimeFailed(f"pip fetched no {wheel.runtime} within {PIP_SECONDS} s: try again") from error
    found = list(place.glob("*.whl"))
    if done.returncode == 0 and len(found) == 1 and file_sha256(found[0]) == wheel.sha256:
        return found[0]
    said = (done.stderr or done.stdout).strip().splitlines()
    reason = said[-1].removeprefix("ERROR: ") if said else f"exit code {done.returncode}"
    remedy = "type python -m ensurepip" if "No module named pip" in reason else "is PyPI reachable? Try again"
    raise RuntimeFailed(f"pip cannot fetch {wheel.runtime} {wheel.version} for the phone ({reason}): {remedy}")


def _unpack(archive: Path, wheel: Wheel, into: Path) -> None:
    into.mkdir()
    with zipfile.ZipFile(archive) as opened:
        for member, name in wheel.members.items():
            (into / name).write_bytes(opened.read(member))
    hashes = {name: file_sha256(into / name) for name in wheel.members.values()}
    (into / INDEX).write_text(json.dumps(hashes, indent=1), encoding="utf-8")


def _is_complete(folder: Path, wheel: Wheel) -> bool:
    """Whether everything was unpacked there, and is as it was then."""
    try:
        hashes: dict[str, str] = json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError):
        return False
    return all(_is_whole(folder / name, hashes.get(name)) for name in wheel.members.values())


def _is_whole(file: Path, digest: str | None) -> bool:
    return file.is_file() and file_sha256(file) == digest
