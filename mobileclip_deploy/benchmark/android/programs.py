"""The harness's programs on a phone, and the command lines that start them there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mobileclip_deploy.benchmark.android.adb import Adb, quoted
from mobileclip_deploy.errors import RuntimeFailed

PLAN = "mobileclip-bench"
LOADERS = ("ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2")
"""glibc's loaders, which ready-made runners bring along, since Android has another C library. The second is for
emulators on PCs."""
BUSY = 4


def runner(runtime: str) -> str:
    """Returns the name of the program that runs a runtime's cells."""
    return f"{PLAN}-{runtime}"


def loader_among(names: Iterable[str]) -> str | None:
    """Returns glibc's loader among these file names. None if the programs are for Android's own C library."""
    return next((name for name in names if name in LOADERS), None)


class NotStarting(RuntimeFailed):
    """Error of a program that the phone does not start."""


@dataclass(frozen=True)
class Programs:
    """A folder of a phone with programs and the libraries that they need.

    Args:
        base: the folder that contains `bin`, `job` and `lock`.
        loader: the file next to the programs that starts them. None if the system starts them.
    """

    base: str
    loader: str | None = None

    @property
    def folder(self) -> str:
        return f"{self.base}/bin"

    def command(self, program: str, *arguments: str, under: Sequence[str] = ()) -> str:
        """Returns a command line for the phone's shell.

        Only this method sets the environment. A program for Android finds its libraries by LD_LIBRARY_PATH, and does
        not start without it.

        Args:
            under: words of a program that starts this program, such as `timeout`.
        """
        path = f"{self.folder}/{program}"
        if self.loader is not None:
            return quoted(*under, f"{self.folder}/{self.loader}", "--library-path", self.folder, path, *arguments)
        return f"LD_LIBRARY_PATH={quoted(self.folder)} {quoted(*under, path, *arguments)}"

    def plan_words(self, turn_seconds: float) -> list[str]:
        """Returns the arguments of `mobileclip-bench`. It ends a round after `turn_seconds`, and the cell fails."""
        words = [f"{self.base}/job", "--resume", "--lock", f"{self.base}/lock", "--runners", self.folder]
        words += ["--turn-timeout", f"{turn_seconds:.3f}"]
        return words + (["--loader", f"{self.folder}/{self.loader}"] if self.loader is not None else [])


@dataclass(frozen=True)
class InstalledPrograms(Programs):
    """Programs on a phone that `adb` reaches."""

    adb: Adb = field(kw_only=True)

    def is_busy(self) -> bool:
        """Returns whether a benchmark runs on the phone.

        Raises:
            NotStarting: `mobileclip-bench`, which checks the lock, is not on the phone or does not start there.
        """
        answer = self.adb.shell(self.command(PLAN, "--held", f"{self.base}/lock"))
        if answer.code not in (0, BUSY):
            raise self.not_starting(PLAN, answer.errors or answer.output, answer.code)
        return answer.code == BUSY

    def stop(self) -> None:
        """Ends the benchmark that runs on the phone, no matter which computer started it."""
        self.adb.demand(self.command(PLAN, "--stop", f"{self.base}/lock"))

    def version(self, program: str) -> str:
        """Returns a program's description of itself, as JSON, which shows that it runs on the phone.

        Raises:
            NotStarting: the phone does not start the program.
        """
        answer = self.adb.shell(self.command(program, "--version"))
        if answer.code == 0:
            return answer.output
        raise self.not_starting(program, answer.errors or answer.output, answer.code)

    def not_starting(self, program: str, said: str, code: int) -> NotStarting:
        """Returns the error for a program that does not start, from its output and exit code."""
        lines = said.strip().splitlines()
        reason = lines[-1].strip() if lines else f"exit code {code}"
        remedy = (
            "build it with the NDK for arm64-v8a, with its libraries, as described in android_harness/README.md"
            if self.loader is None
            else "the ready runners need a shell that may execute files there: name another folder in "
            "MOBILECLIP_ANDROID_FOLDER"
        )
        return NotStarting(f"{program} does not start on the phone {self.adb.serial} ({reason}): {remedy}")
