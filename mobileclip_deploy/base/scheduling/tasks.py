"""A task: one piece of the work, what it needs, and how it ended. Tasks are run here, one after another, or by Dask on
as many processes as their memory allows."""

from __future__ import annotations

import importlib.util
import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mobileclip_deploy.errors import DependencyMissing, MobileClipDeployError, RuntimeFailed, UsageError

LOCAL = "local"
"""A scheduler of processes on this machine."""
ENCRYPTED = ("tls://", "wss://")
"""Connections whose two ends show certificates of the cluster's own authority."""
ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://[^\s/]+:\d+/?")


@dataclass(frozen=True)
class Task:
    """A piece of work that needs no other.

    Args:
        name: what it is, for progress and errors: "shard 3".
        call: a function of a module, which other processes import by its name.
        arguments: of `call`; they travel, so large things are named by their files.
        memory: bytes that its process has at most while it runs, all included.
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
"""Told how a task ended when it did: what its call gave, or `Failed`."""


@dataclass(frozen=True)
class Refusal:
    """An error on its way between processes. Errors have constructors of their own; their type and text are enough."""

    kind: type[MobileClipDeployError]
    line: str

    def failed(self) -> Failed:
        return Failed(self.kind.__new__(self.kind, self.line))


def perform(task: Task) -> Any:
    """What a process does with a task: its result, or a `Refusal`. No exception crosses the network."""
    try:
        return task.call(*task.arguments)
    except MobileClipDeployError as error:
        return Refusal(type(error), error.line)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
        text = " ".join(str(error).split())[:300]
        return Refusal(RuntimeFailed, f"{task.name}: {type(error).__name__}: {text} ({place})")


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_gigabytes(count: float) -> str:
    """Bytes in GB (10^9), for people."""
    return f"{count / 1e9:.1f} GB"


def check_scheduler(scheduler: str | None) -> None:
    """Whether it is one, and Dask is here.

    Raises:
        UsageError: neither "local" nor an address.
        DependencyMissing: Dask is not installed.
    """
    if scheduler is None:
        return
    if scheduler != LOCAL and ADDRESS.fullmatch(scheduler) is None:
        raise UsageError(
            f"`scheduler` {scheduler!r} is no scheduler; give local, or the address of Dask's, "
            "such as tls://10.0.0.1:8786"
        )
    if importlib.util.find_spec("distributed") is None:
        raise DependencyMissing(
            "`scheduler` needs Dask, which is not installed; type: pip install 'mobileclip-deploy[scale]'"
        )


def require_tls(scheduler: str | None, insecure: bool) -> None:
    """Refuses an address without TLS: who knows its port can run code in the scheduler, in its workers and here.

    Args:
        insecure: the user wants it all the same.

    Raises:
        UsageError: see `check_scheduler`; or the address has no TLS.
        DependencyMissing: Dask is not installed.
    """
    check_scheduler(scheduler)
    if scheduler in (None, LOCAL) or insecure or scheduler.startswith(ENCRYPTED):
        return
    raise UsageError(
        f"the scheduler {scheduler} has no TLS, so whoever reaches its port can run code on its machines and on this "
        "one; start it with certificates and give its tls:// address, or add `insecure_scheduler=True` in a network "
        "that you trust"
    )
