"""The phone's lock while a run is prepared. Without it, two benchmarks could overwrite each other's files."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mobileclip_deploy.benchmark.android.adb import END, PATIENCE_SECONDS, Adb, ShellResult, quoted
from mobileclip_deploy.benchmark.bounded import SAID_BYTES
from mobileclip_deploy.errors import RuntimeFailed

HELD = "mobileclip-lock-held"
REFUSED, MISSING = 1, 127
"""Exit codes: of `flock -n` (toybox, util-linux) if another process has the lock; of a shell without flock."""


class PhoneBusy(RuntimeFailed):
    """Error of a phone that another benchmark uses."""

    def __init__(self, serial: str) -> None:
        super().__init__(f"another benchmark runs on the phone {serial}: wait for its end")


@contextmanager
def phone_lock(adb: Adb, base: str) -> Iterator[bool]:
    """Holds the harness's lock until the block or this process ends. The harness takes the same lock at its start.

    A shell on the phone holds the lock until its input ends, so a pulled cable releases the lock.

    Yields:
        True if the lock is held. False on a phone without `flock`; there the last benchmark to push wins.

    Raises:
        PhoneBusy: another benchmark holds the lock.
        RuntimeFailed: the phone is lost.
    """
    lock = quoted(f"{base}/lock")
    # Redirects a group: Android's shell does not pass files that `exec` opened to the programs that it starts.
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
        output = process.stdout.readline(SAID_BYTES)
        if output.strip() == HELD:
            return True
        output += process.stdout.read(SAID_BYTES)
        errors = process.stderr.read(SAID_BYTES)
    finally:
        limit.cancel()
    end = END.search(output)
    if end is None or int(end[1]) not in (REFUSED, MISSING):
        raise adb.failure(ShellResult(process.wait(), output, errors))
    if int(end[1]) == REFUSED:
        raise PhoneBusy(adb.serial)
    return False
