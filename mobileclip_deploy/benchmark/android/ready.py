"""Ready-made runners: the programs of their archive (release.py), with runtimes from PyPI's wheels.

The programs are built against glibc, and bring it along. The runtimes' libraries are taken out of the wheels for 64-bit
ARM Linux, at the versions that the bundles were proven with, the first time that a phone needs them, and kept.
"""

from __future__ import annotations

import json
import subprocess
import time
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from mobileclip_deploy.base.files import cache_folder, file_sha256, replacing
from mobileclip_deploy.base.files.leftovers import temporary_folder
from mobileclip_deploy.base.interpreter import python
from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.programs import PLAN, runner
from mobileclip_deploy.benchmark.job import Count, Frozen, Identifier, Sha256
from mobileclip_deploy.errors import WHY, RuntimeFailed, refusing

CONTENTS = "runners.json"
PIP_SECONDS = 900
LOOK_SECONDS = 0.5
"""Between two looks at how much pip has fetched."""
INDEX = "files.json"


class Wheel(Frozen):
    """A runtime's wheel for the phone, and which of its files are pushed under which names.

    `package`: what it is called on PyPI; None: like the runtime. `linked`: the programs are linked against this
    version; otherwise they open whichever lies beside them.
    `sha256`, `bytes`: None for a version that the archive does not name.
    """

    runtime: Identifier
    package: Identifier | None = None
    version: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+]*$")]
    linked: bool
    sha256: Sha256 | None
    bytes: Count | None
    python: str
    platforms: tuple[str, ...]
    members: dict[str, Identifier]

    @property
    def distribution(self) -> str:
        return self.package or self.runtime

    @property
    def title(self) -> str:
        return f"{self.distribution} {self.version}"

    def of(self, versions: Collection[str]) -> Wheel:
        """The wheel of the version that bundles were proven with, this one where none says.

        Raises:
            RuntimeFailed: they were proven with several, or the programs run this version only.
        """
        if len(versions) > 1:
            raise RuntimeFailed(
                f"the bundles were proven with {self.distribution} {' and '.join(sorted(versions))}, and one run has "
                "one version: measure them one after the other"
            )
        wanted = next(iter(versions), self.version)
        if wanted == self.version:
            return self
        if self.linked:
            raise RuntimeFailed(
                f"the bundle was proven with {self.distribution} {wanted}, and the ready runners run {self.title} "
                f"only: type pip install {self.distribution}=={self.version}, and export the bundle again"
            )
        members = {member.replace(self.version, wanted): name for member, name in self.members.items()}
        return self.model_copy(update={"version": wanted, "sha256": None, "bytes": None, "members": members})


class Contents(Frozen):
    """runners.json of the archive: its files with their SHA-256, and the wheels."""

    schema_version: Literal[1]
    version: str
    machine: Literal["aarch64", "x86_64"]
    c_library: Literal["glibc"]
    files: dict[Identifier, Sha256]
    wheels: tuple[Wheel, ...]
    debian_packages: dict[str, str]


def runners_summary(folder: Path) -> str:
    """`1 for executorch 1.5.1, onnxruntime 1.32.0`. Raises as `ready_runners`."""
    contents = _contents(folder)
    runtimes = sorted(f"{wheel.runtime} {wheel.version}" for wheel in contents.wheels)
    return f"{contents.version} for {', '.join(runtimes)}"


def ready_runners(folder: Path, runtimes: Mapping[str, Collection[str]], progress: Progress) -> tuple[Path, ...]:
    """The archive's programs and libraries that these runtimes need, and the runtimes' own.

    Args:
        folder: the archive's files.
        runtimes: with the versions that the bundles to be run were proven with; the archive's own where none is known.

    Raises:
        RuntimeFailed: a runtime is not among them or not in that version, a file is damaged, or a wheel cannot be had.
    """
    contents = _contents(folder)
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
    own = tuple(folder / name for name in sorted(programs | libraries))
    wanted = [(wheels[name], wheels[name].of(versions)) for name, versions in sorted(runtimes.items())]
    return own + tuple(file for ours, wheel in wanted for file in _libraries(wheel, ours.version, progress))


def _contents(folder: Path) -> Contents:
    file = folder / CONTENTS
    told = f"{file} cannot be used ({WHY}): unpack the runners' archive again"
    with refusing(told, OSError, ValidationError, into=RuntimeFailed):
        return Contents.model_validate_json(file.read_bytes())


def _libraries(wheel: Wheel, known: str, progress: Progress) -> tuple[Path, ...]:
    """A wheel's libraries, from the cache, or fetched now. `known`: the version that the archive names."""
    name = f"{wheel.runtime}-{wheel.version}-{wheel.sha256[:16] if wheel.sha256 else 'named-by-bundle'}"
    folder = cache_folder("android-runners") / name
    if not _is_complete(folder, wheel):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder() as place:
            archive = _fetch(wheel, known, place, progress)
            progress(f"unpacking {wheel.title}")
            with replacing(folder) as partial:
                _unpack(archive, wheel, partial)
    return tuple(folder / name for name in sorted(wheel.members.values()))


def _fetch(wheel: Wheel, known: str, place: Path, progress: Progress) -> Path:
    wanted = place / "requirements.txt"
    digest = f" --hash=sha256:{wheel.sha256}" if wheel.sha256 else ""
    wanted.write_text(f"{wheel.distribution}=={wheel.version}{digest}\n", encoding="utf-8")
    words = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--only-binary=:all:", "--python-version", wheel.python]
    words += [word for platform in wheel.platforms for word in ("--platform", platform)]
    words += ["--dest", str(place), "--requirement", str(wanted)]

    def tell(count: int) -> None:
        of = f": {count / 1e6:.1f} of {wheel.bytes / 1e6:.1f} MB" if wheel.bytes else ""
        progress(f"fetching {wheel.title} for the phone{of}")

    code, said = _run_pip(words, place / "unfinished", tell)
    found = list(place.glob("*.whl"))
    if code == 0 and len(found) == 1 and wheel.sha256 in (None, file_sha256(found[0])):
        return found[0]
    lines = said.strip().splitlines()
    reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {code}"
    if "No module named pip" in said:
        remedy = "type python -m ensurepip"
    elif wheel.version != known and "from versions:" in said:
        remedy = (
            "the bundle was proven with it. Is PyPI reachable? If it is, there is none for phones: type pip install "
            f"{wheel.distribution}=={known}, which the ready runners know, and export the bundle again"
        )
    else:
        remedy = "is PyPI reachable? Try again"
    raise RuntimeFailed(f"pip cannot fetch {wheel.title} for the phone ({reason}): {remedy}")


def _run_pip(words: list[str], unfinished: Path, tell: Callable[[int], None]) -> tuple[int, str]:
    """Exit code, and what it said. `tell` hears how many bytes have come, by the files in `unfinished`: pip shows its
    own bar to people only, or not at all."""
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
                    said, _ = process.communicate(timeout=LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    before, count = count, sum(file.stat().st_size for file in unfinished.rglob("*.whl"))
                    if count > before:
                        tell(count)
                else:
                    return process.returncode, said
        except BaseException:
            process.kill()
            raise
        process.kill()
    raise RuntimeFailed(f"pip fetched nothing within {PIP_SECONDS} s: try again")


def _unpack(archive: Path, wheel: Wheel, into: Path) -> None:
    into.mkdir()
    with zipfile.ZipFile(archive) as opened:
        missing = sorted(wheel.members.keys() - set(opened.namelist()))
        if missing:
            raise RuntimeFailed(
                f"the wheel of {wheel.title} holds no {missing[0]}: export the bundle with another version"
            )
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
