"""Commands of the wings, found by the entry-point group `mobileclip_deploy.commands`.

An entry has the name of its command. An entry with a dot, such as `evaluate.suite`, runs an option of a core command.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "mobileclip_deploy.commands"


@cache
def entries() -> Mapping[str, EntryPoint]:
    """Returns the entry points of the group, by name. An editable and an installed copy list each of them twice."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def find(name: str) -> Any:
    """Returns a wing's object of this name. None if no installed wing has it."""
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
    """Returns a wing's object of this name.

    Raises:
        UsageError: the wing is not installed.
    """
    from mobileclip_deploy.errors import UsageError

    loaded = find(name)
    if loaded is None:
        raise UsageError(missing(name))
    return loaded


def missing(name: str) -> str:
    """Returns the message for a command of `entries` whose wing is not installed."""
    shown, wing = name.replace(".", " --"), entries()[name].module.split(".")[1]
    return f"`{shown}` belongs to the wing {wing}, which is not installed; install mobileclip-deploy again"
