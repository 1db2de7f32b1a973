"""Starts of Python processes: no process looks for modules in the current folder, which may be an untrusted bundle."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import subprocess

SAFE = "PYTHONSAFEPATH"


def python(*words: str, variables: Mapping[str, str] | None = None) -> tuple[list[str], dict[str, str]]:
    """Returns the command line and the environment for a process of this interpreter. All such processes are started
    through it.

    `-m` and `-c` put the current folder in front of all others, unless `-P` is given. The process imports this package
    from the same folder as here. An empty or relative entry of PYTHONPATH means the current folder, and is not passed
    on.

    Args:
        words: arguments of the interpreter, such as `-m` and a module.
        variables: additions to this process's environment.
    """
    package_parent = str(Path(__file__).parents[2])
    others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    environment = os.environ | (variables or {})
    # On Windows a process prints in the code page of the system otherwise, and is read as UTF-8.
    ours = {SAFE: "1", "PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join([package_parent, *others])}
    return [sys.executable, "-P", *words], environment | ours


def run_within(command: Sequence[str], seconds: float, **how: Any) -> tuple[int | None, str]:
    """Runs a process that may die or never return.

    Args:
        seconds: time limit, after which it is stopped.
        how: further arguments of `subprocess.run`.

    Returns:
        Its exit code, negative for a signal, None if it was stopped; and a description of its end if the code is not 0.
    """
    import signal
    import subprocess

    try:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=seconds, check=False, **how).returncode
    except subprocess.TimeoutExpired:
        return None, f"was stopped after {seconds:g} s"
    return code, f"died ({signal.Signals(-code).name})" if code < 0 else "failed"


def end_group(process: subprocess.Popen[Any], *, force: bool) -> None:
    """Ends a process that was started with `start_new_session`, and those that it started; nothing if it has ended.

    Args:
        force: do not let them clean up. Windows never does.
    """
    import signal
    import subprocess

    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)


def restart() -> NoReturn:
    """Replaces this process by a new one with the same arguments, including `-P`."""
    os.execv(sys.executable, sys.orig_argv)


@contextlib.contextmanager
def safe_children() -> Iterator[None]:
    """Applies the same to processes that libraries start meanwhile: those of multiprocessing, Dask and torch."""
    before = os.environ.get(SAFE)
    os.environ[SAFE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE, None)
        else:
            os.environ[SAFE] = before
