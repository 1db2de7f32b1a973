"""The harness's programs as they lie on a phone, and the one way in which they are started there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mobileclip_deploy.benchmark.android.adb import Adb, quoted
from mobileclip_deploy.errors import RuntimeFailed

PLAN = "mobileclip-bench"
LOADERS = ("ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2")
"""glibc's, which ready-made runners bring along: Android has another C library. The second is for emulators on PCs."""
BUSY = 4


def runner(runtime: str) -> str:
    """The program that runs a runtime's cells."""
    return f"{PLAN}-{runtime}"


def loader_among(names: Iterable[str]) -> str | None:
    """The loader of glibc among these file names; None: they are of programs for Android's own C library."""
    return next((name for name in names if name in LOADERS), None)


class NotStarting(RuntimeFailed):
    """A program that the phone does not start."""


@dataclass(frozen=True)
class Programs:
    """A folder of a phone with programs and the libraries that they need.

    Args:
        base: the folder that holds `bin`, `job` and `lock`.
        loader: the file beside the programs that starts them; None: the system does.
    """

    base: str
    loader: str | None = None

    @property
    def folder(self) -> str:
        return f"{self.base}/bin"

    def command(self, program: str, *arguments: str, under: Sequence[str] = ()) -> str:
        """A line for the phone's shell.

        The environment is made here and nowhere else: a program that is built for Android looks for its libraries
        where LD_LIBRARY_PATH says, and without it does not start.

        Args:
            under: words of a program that starts this one, such as `timeout`.
        """
        path = f"{self.folder}/{program}"
        if self.loader is not None:
            return quoted(*under, f"{self.folder}/{self.loader}", "--library-path", self.folder, path, *arguments)
        return f"LD_LIBRARY_PATH={quoted(self.folder)} {quoted(*under, path, *arguments)}"

    def plan_words(self, turn_seconds: float) -> list[str]:
        """What `mobileclip-bench` is told, whoever starts it; a round that takes longer than `turn_seconds` is ended,
        and its cell failed."""
        words = [f"{self.base}/job", "--resume", "--lock", f"{self.base}/lock", "--runners", self.folder]
        words += ["--turn-timeout", f"{turn_seconds:.3f}"]
        return words + (["--loader", f"{self.folder}/{self.loader}"] if self.loader is not None else [])


@dataclass(frozen=True)
class InstalledPrograms(Programs):
    """Those of one phone, which `adb` reaches."""

    adb: Adb = field(kw_only=True)

    def is_busy(self) -> bool:
        """Whether a benchmark runs on the phone.

        Raises:
            NotStarting: the program that could tell is not there, or not one that the phone starts.
        """
        answer = self.adb.shell(self.command(PLAN, "--held", f"{self.base}/lock"))
        if answer.code not in (0, BUSY):
            raise self.not_starting(PLAN, answer.errors or answer.output, answer.code)
        return answer.code == BUSY

    def stop(self) -> None:
        """End the benchmark that runs on the phone, whoever started it."""
        self.adb.demand(self.command(PLAN, "--stop", f"{self.base}/lock"))

    def version(self, program: str) -> str:
        """What a program says about itself, as JSON: the first sign that it runs there.

        Raises:
            NotStarting: the phone does not start it.
        """
        answer = self.adb.shell(self.command(program, "--version"))
        if answer.code == 0:
            return answer.output
        raise self.not_starting(program, answer.errors or answer.output, answer.code)

    def not_starting(self, program: str, said: str, code: int) -> NotStarting:
        """The error of a program that the phone does not start."""
        lines = said.strip().splitlines()
        reason = lines[-1].strip() if lines else f"exit code {code}"
        remedy = (
            "build it with the NDK for arm64-v8a, with its libraries, as android_harness/README.md says"
            if self.loader is None
            else "the ready runners need a shell that may execute files there: name another folder in "
            "MOBILECLIP_ANDROID_FOLDER, or measure with the app (`device='android:app'`)"
        )
        return NotStarting(f"{program} does not start on the phone {self.adb.serial} ({reason}): {remedy}")
