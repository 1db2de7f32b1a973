"""The gates of checks that other packages bring: their names alone, which help names without importing anything."""

from __future__ import annotations

from importlib.metadata import entry_points

OWN_CHECKS = "mobileclip_deploy.checks"
"""Where packages register checks of their own as entry points; the name of one is that of its gate."""


def own_gates() -> tuple[str, ...]:
    """The gates of checks that installed packages bring."""
    return tuple(sorted({entry.name for entry in entry_points(group=OWN_CHECKS)}))
