"""Settings of Android runs from environment variables, and the search for the harness's programs."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileclip_deploy.base.progress import Progress
from mobileclip_deploy.benchmark.android.programs import PLAN, runner
from mobileclip_deploy.benchmark.android.ready import CONTENTS, read_contents, ready_runners
from mobileclip_deploy.benchmark.android.release import HOW_TO_GET, pinned_release, released_runners, unpacked_runners
from mobileclip_deploy.benchmark.job import Job, Protocol
from mobileclip_deploy.errors import RuntimeFailed, UsageError

BUILT = Path(__file__).parents[3] / "android_harness" / "build" / "android-arm64" / "bin"
READY = "ready"
"""Value of MOBILECLIP_ANDROID_RUNNERS for the ready runners, even if others were built here."""
HOW_TO_BUILD = "build them as described in android_harness/README.md, or name others with `runners`"
LIBRARIES = {
    "onnxruntime": ("libonnxruntime.so", "copy the one of the onnxruntime-android AAR there"),
    "litert": ("libLiteRt.so", "copy the litert AAR's there, and a line `Version: ...` as libLiteRt.so.metadata"),
}
"""Libraries that a runner loads at its start and its build does not bring: runtime -> file, remedy."""
OWN = {"onnxruntime": "libonnxruntime", "executorch": "libexecutorch", "litert": "libLiteRt"}
"""Beginnings of a runtime's library names. Libraries of runtimes that are not measured are not pushed."""
MACHINES = {0x3E: "x86_64", 0xB7: "aarch64"}


@dataclass(frozen=True)
class AndroidSettings:
    """Settings from environment variables, so that the command line stays the same for all devices.

    Args:
        folder: folder on the phone for all of this project's files (MOBILECLIP_ANDROID_FOLDER).
        runners: the archive of ready runners, a folder of runners, or `ready` (MOBILECLIP_ANDROID_RUNNERS). None for
            runners that the NDK built in this checkout, else the ready runners.
        places: labels of places in addition to each target's first (MOBILECLIP_ANDROID_PLACES, with commas). Not every
            build of a runtime has them; an example is onnxruntime-xnnpack.
        cooling_seconds: longest wait for a hot phone (MOBILECLIP_ANDROID_COOLING_SECONDS).
        reconnect_seconds: longest wait for a lost phone (MOBILECLIP_ANDROID_RECONNECT_SECONDS).
        turn_seconds: time limit of a round (MOBILECLIP_ANDROID_TURN_SECONDS). None if the protocol decides it.
        fixed_performance: measure in the phone's fixed performance mode, whose clocks are below the highest
            (MOBILECLIP_ANDROID_FIXED_PERFORMANCE, 1 or 0).
    """

    folder: str = "/data/local/tmp/mobileclip-deploy"
    runners: Path | None = None
    places: tuple[str, ...] = ()
    cooling_seconds: float = 600
    reconnect_seconds: float = 0
    turn_seconds: float | None = None
    fixed_performance: bool = False

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> AndroidSettings:
        """Reads the variables.

        Raises:
            UsageError: a variable has an invalid value.
        """
        folder = environment.get("MOBILECLIP_ANDROID_FOLDER", cls.folder)
        if not folder.startswith("/") or folder.rstrip("/") == "" or "\n" in folder:
            raise UsageError(
                f"MOBILECLIP_ANDROID_FOLDER={folder!r} is not a folder below / on the phone; unset it, or correct it"
            )
        turn = _seconds(environment, "MOBILECLIP_ANDROID_TURN_SECONDS")
        cooling = _seconds(environment, "MOBILECLIP_ANDROID_COOLING_SECONDS")
        reconnect = _seconds(environment, "MOBILECLIP_ANDROID_RECONNECT_SECONDS")
        fixed = environment.get("MOBILECLIP_ANDROID_FIXED_PERFORMANCE", "0")
        if fixed not in ("0", "1"):
            raise UsageError(f"MOBILECLIP_ANDROID_FIXED_PERFORMANCE={fixed!r} is neither 1 nor 0; correct it")
        return cls(
            folder=folder.rstrip("/"),
            runners=Path(named) if (named := environment.get("MOBILECLIP_ANDROID_RUNNERS")) else None,
            places=tuple(
                word.strip() for word in environment.get("MOBILECLIP_ANDROID_PLACES", "").split(",") if word.strip()
            ),
            cooling_seconds=cls.cooling_seconds if cooling is None else cooling,
            reconnect_seconds=120.0 if reconnect is None else reconnect,
            turn_seconds=turn,
            fixed_performance=fixed == "1",
        )

    def turn_limit(self, protocol: Protocol) -> float:
        """Returns the time limit of a round, in seconds."""
        return protocol.longest_seconds if self.turn_seconds is None else self.turn_seconds

    def total_limit(self, job: Job) -> float:
        """Returns the phone's time limit of a run, in seconds: for rounds, cooling, and starting the programs."""
        cooling = job.protocol.cool_seconds * len(job.order)
        return self.turn_limit(job.protocol) * (len(job.order) + 1) + cooling


@dataclass(frozen=True)
class Runners:
    """Programs and shared libraries to push, and the machine that they were built for (as in `uname -m`)."""

    files: tuple[Path, ...]
    machine: str


def find_runners(
    chosen: Path | None,
    runtimes: Mapping[str, Collection[str]],
    progress: Progress,
    versions: Mapping[str, str] | None = None,
) -> Runners:
    """Returns the harness's programs that these runtimes need, and every library to push with them.

    Args:
        chosen: see `AndroidSettings.runners`.
        runtimes: runtime -> versions that its bundles were proven with.
        versions: runtime of the ready runners -> version that the user chose.

    Raises:
        UsageError: a version was chosen for a runtime that is not measured, or for runners that bring their own.
        RuntimeFailed: a program is missing or was built for an unknown machine; the error has a remedy.
    """
    unused = sorted((versions or {}).keys() - runtimes.keys())
    if unused:
        raise UsageError(
            f"`runtime_versions` names {unused[0]}, but {', '.join(sorted(runtimes))} is measured; leave it out"
        )
    if chosen is None and not versions and (BUILT / PLAN).is_file():
        chosen = BUILT
    if chosen is None or str(chosen) == READY:
        folder = released_runners(progress)
    elif not chosen.is_dir():
        folder = unpacked_runners(chosen)
    elif (chosen / CONTENTS).is_file():
        folder = chosen
    elif versions:
        raise UsageError(f"the runners in {chosen} include their own runtimes; leave `runtime_versions` out")
    else:
        return _built_runners(chosen, frozenset(runtimes))
    version, needed = read_contents(folder).version, pinned_release().version
    if version != needed:  # their programs know other fields of a job
        raise RuntimeFailed(
            f"the runners {folder} are of version {version}, and version {needed} is needed: {HOW_TO_GET}"
        )
    files = ready_runners(folder, runtimes, progress, versions)
    return Runners(files, _machine(folder / PLAN))


def _built_runners(folder: Path, runtimes: frozenset[str]) -> Runners:
    programs = [PLAN, *(runner(runtime) for runtime in sorted(runtimes))]
    missing = [name for name in programs if not (folder / name).is_file()]
    if missing:
        raise RuntimeFailed(f"{folder} lacks {', '.join(missing)}: {HOW_TO_BUILD}")
    others = tuple(begin for runtime, begin in OWN.items() if runtime not in runtimes)
    libraries = sorted(path for path in folder.glob("*.so*") if path.is_file() and not path.name.startswith(others))
    for library, remedy in (LIBRARIES[runtime] for runtime in sorted(runtimes & LIBRARIES.keys())):
        if not (folder / library).is_file():
            raise RuntimeFailed(f"{folder} lacks {library}: {remedy}")
    files = tuple(folder / name for name in programs) + tuple(libraries)
    return Runners(files, _machine(folder / PLAN))


def _machine(program: Path) -> str:
    with program.open("rb") as stream:
        header = stream.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF" or header[4] != 2:
        raise RuntimeFailed(f"{program} is not a 64-bit ELF program: {HOW_TO_BUILD}")
    number = struct.unpack_from("<H", header, 18)[0]
    if number not in MACHINES:
        raise RuntimeFailed(f"{program} was built for an unknown machine ({number:#x}): {HOW_TO_BUILD}")
    return MACHINES[number]


def _seconds(environment: Mapping[str, str], name: str) -> float | None:
    text = environment.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1e6:
        raise UsageError(f"{name}={text!r} is not a number of seconds; unset it, or correct it")
    return value
