"""Tasks: independent pieces of work with their memory needs and outcomes. They run here one after another, or on Dask
in as many processes as memory allows."""

import importlib.util
import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mobileclip_deploy.errors import DependencyMissing, MobileClipDeployError, RuntimeFailed, UsageError

LOCAL = "local"
"""Name of a scheduler with processes on this machine."""
ENCRYPTED = ("tls://", "wss://")
"""Prefixes of connections whose two ends show certificates of the cluster's own authority."""
ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://[^\s/]+:\d+/?")


@dataclass(frozen=True)
class Task:
    """A piece of work that depends on no other.

    Args:
        name: name for progress and errors: "shard 3".
        call: a function of a module, which other processes import by its name.
        arguments: of `call`; they are sent to the process, so pass large data as file names.
        memory: limit on the bytes of its process while it runs, everything included.
    """

    name: str
    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    memory: int


@dataclass(frozen=True)
class Failed:
    """A task that ended in an error."""

    error: MobileClipDeployError


Told = Callable[[Task, Any], None]
"""Callback that gets each ended task and its result, or `Failed`."""


@dataclass(frozen=True)
class Refusal:
    """An error sent between processes as type and text. Errors' constructors differ; type and text are sufficient."""

    kind: type[MobileClipDeployError]
    line: str

    def failed(self) -> Failed:
        return Failed(self.kind.__new__(self.kind, self.line))


def perform(task: Task) -> Any:
    """Runs a task in a worker, and returns its result or a `Refusal`. No exception is sent over the network."""
    try:
        return task.call(*task.arguments)
    except MobileClipDeployError as error:
        return Refusal(type(error), error.line)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        location = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        text = " ".join(str(error).split())[:300]
        return Refusal(RuntimeFailed, f"{task.name}: {type(error).__name__}: {text} ({location})")


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_gigabytes(count: float) -> str:
    """Formats bytes in GB (10^9), for people."""
    return f"{count / 1e9:.1f} GB"


def check_scheduler(scheduler: str | None) -> None:
    """Checks that a scheduler is valid, and that Dask is installed.

    Raises:
        UsageError: neither "local" nor an address.
        DependencyMissing: Dask is not installed.
    """
    if scheduler is None:
        return
    if scheduler != LOCAL and ADDRESS.fullmatch(scheduler) is None:
        raise UsageError(
            f"`scheduler` {scheduler!r} is not a scheduler; give local, or the address of Dask's, such as "
            "tls://10.0.0.1:8786"
        )
    if importlib.util.find_spec("distributed") is None:
        raise DependencyMissing(
            "`scheduler` needs Dask, which is not installed; type: pip install 'mobileclip-deploy[scale]'"
        )


def require_tls(scheduler: str | None, insecure: bool) -> None:
    """Refuses an address without TLS: anybody who knows its port can run code in the scheduler, in its workers and
    here.

    Args:
        insecure: the user accepts that.

    Raises:
        UsageError: see `check_scheduler`; or the address has no TLS.
        DependencyMissing: Dask is not installed.
    """
    check_scheduler(scheduler)
    if scheduler in (None, LOCAL) or insecure or scheduler.startswith(ENCRYPTED):
        return
    raise UsageError(
        f"the scheduler {scheduler} has no TLS, so anyone who reaches its port can run code on its machines and on "
        "this one; start it with certificates and give its tls:// address, or add `insecure_scheduler=True` in a "
        "network that you trust"
    )
