"""Gates of checks that other packages bring: only their names, so that help can list them without imports."""

from __future__ import annotations

from importlib.metadata import entry_points

OWN_CHECKS = "mobileclip_deploy.checks"
"""Entry point group in which packages register their own checks; an entry's name is that of its gate."""


def own_gates() -> tuple[str, ...]:
    """Returns the gates of checks that installed packages bring."""
    return tuple(sorted({entry.name for entry in entry_points(group=OWN_CHECKS)}))
