"""How a user names a scheduler: "local", or the address of one that runs."""

from __future__ import annotations

import importlib.util
import re

from mobileclip_deploy.errors import DependencyMissing, UsageError

__all__ = ["LOCAL", "check_scheduler"]

LOCAL = "local"
ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://[^\s/]+:\d+/?")


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
            "such as tcp://10.0.0.1:8786"
        )
    if importlib.util.find_spec("distributed") is None:
        raise DependencyMissing(
            "`scheduler` needs Dask, which is not installed; type: pip install 'mobileclip-deploy[scale]'"
        )
