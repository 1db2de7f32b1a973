"""Commands that the wings bring, found by the entry-point group `mobileclip_deploy.commands`.

An entry is called like its command. One with a dot, such as `evaluate.suite`, is what an option of a core command runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "mobileclip_deploy.commands"
WINGS = {
    "sweep": "benchmark",
    "evaluate.suite": "benchmark",
    "embed": "search",
    "search": "search",
    "bridge": "search",
    "reinforce": "training",
    "train": "training",
    "recover": "training",
    "devices": "benchmark",
    "benchmark": "benchmark",
    "report": "benchmark",
    "demo": "web",
    "doctor": "benchmark",
}
"""The wing that each command belongs to, for the message where the wing is not installed."""


@cache
def entries() -> Mapping[str, EntryPoint]:
    """Entry points of the group, by name. An editable and an installed copy list each of them twice."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def find(name: str) -> Any:
    """Returns what a wing brings under a name; None if no wing that is installed does."""
    entry = entries().get(name)
    if entry is None:
        return None
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        # The wing itself is missing, not a package that it imports.
        if error.name is not None and entry.module.startswith(error.name):
            return None
        raise


def of_wing(name: str) -> Any:
    """Returns what a wing brings under a name.

    Raises:
        UsageError: the wing is not installed.
    """
    from mobileclip_deploy.errors import UsageError

    brought = find(name)
    if brought is None:
        raise UsageError(missing(name))
    return brought


def missing(name: str) -> str:
    """Returns the message for a command whose wing is not installed."""
    shown = name.replace(".", " --")
    return f"`{shown}` belongs to the wing {WINGS[name]}, which is not installed; install mobileclip-deploy again"
