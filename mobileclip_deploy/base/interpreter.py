"""How Python processes are started: none looks for modules in the current folder, which may be a stranger's bundle."""

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
    """The command line and the environment of a process of this interpreter; nobody else names the interpreter.

    `-m` and `-c` put the current folder in front of all others, unless `-P` is given. A process finds this package
    where it is found here. An empty or relative entry of PYTHONPATH means the current folder, and is not handed on.

    Args:
        words: what stands behind the interpreter, `-m` and a module, say.
        variables: what is added to this process's environment.
    """
    own = str(Path(__file__).parents[2])
    others = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(place)]
    environment = os.environ | (variables or {})
    # On Windows a process prints in the code page of the system otherwise, and is read as UTF-8.
    ours = {SAFE: "1", "PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join([own, *others])}
    return [sys.executable, "-P", *words], environment | ours


def run_within(command: Sequence[str], seconds: float, **how: Any) -> tuple[int | None, str]:
    """Run a process that may die or never return.

    Args:
        seconds: after so many it is stopped.
        how: what else `subprocess.run` is given.

    Returns:
        Its exit status, negative of a signal, None where it was stopped; and in words how it ended where that is not 0.
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


def begin_anew() -> NoReturn:
    """Replace this process by one that is started with the same words, `-P` among them."""
    os.execv(sys.executable, sys.orig_argv)


@contextlib.contextmanager
def safe_children() -> Iterator[None]:
    """The same for processes that libraries start meanwhile: those of multiprocessing, Dask and torch."""
    before = os.environ.get(SAFE)
    os.environ[SAFE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE, None)
        else:
            os.environ[SAFE] = before
