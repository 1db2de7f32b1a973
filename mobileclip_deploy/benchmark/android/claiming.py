"""The phone's lock while a run is prepared: of two benchmarks that begin together one would push over the other."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mobileclip_deploy.benchmark.android.adb import END, PATIENCE_SECONDS, Adb, Answer, quoted
from mobileclip_deploy.benchmark.bounded import SAID_BYTES
from mobileclip_deploy.errors import RuntimeFailed

HELD = "mobileclip-lock-held"
REFUSED, MISSING = 1, 127
"""Exit codes: `flock -n` of toybox and util-linux where somebody else has the lock; the shell where it has no flock."""


class PhoneBusy(RuntimeFailed):
    """Somebody else's benchmark has the phone."""

    def __init__(self, serial: str) -> None:
        super().__init__(f"another benchmark runs on the phone {serial}: wait for its end")


@contextmanager
def claimed(adb: Adb, base: str) -> Iterator[bool]:
    """Hold the lock that the harness takes when it starts, until the block ends or this process does.

    A shell on the phone holds it and waits for the end of its input: a cable that is pulled gives it back.

    Yields:
        Whether it is held. On a phone without `flock` it is not, and whoever pushes last wins.

    Raises:
        PhoneBusy: another benchmark has it.
        RuntimeFailed: the phone is lost.
    """
    lock = quoted(f"{base}/lock")
    # With a group's redirection: what `exec` opens, Android's shell keeps from the programs that it starts.
    script = (
        f"mkdir -p -- {quoted(base)} && ( flock -n 9; code=$?; [ $code = 0 ] || exit $code; "
        f"echo $$ >{lock}; echo {HELD}; read -r _ ) 9>>{lock}; echo mobileclip-shell-ended $?"
    )
    process = subprocess.Popen(
        adb.command("shell", script),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    with process:
        try:
            yield _is_held(process, adb)
        finally:
            if process.stdin is not None:
                process.stdin.close()  # the shell's input ends, and so does the shell
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _is_held(process: subprocess.Popen[str], adb: Adb) -> bool:
    assert process.stdout is not None
    assert process.stderr is not None
    limit = threading.Timer(PATIENCE_SECONDS, process.kill)
    limit.start()
    try:
        said = process.stdout.readline(SAID_BYTES)
        if said.strip() == HELD:
            return True
        said += process.stdout.read(SAID_BYTES)
        errors = process.stderr.read(SAID_BYTES)
    finally:
        limit.cancel()
    end = END.search(said)
    if end is None or int(end[1]) not in (REFUSED, MISSING):
        raise adb.failure(Answer(process.wait(), said, errors))
    if int(end[1]) == REFUSED:
        raise PhoneBusy(adb.serial)
    return False
