"""Versions of the packages that wrote a bundle, and of those here."""

import importlib.metadata
import re

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.targets import Target

OURS = "mobileclip-deploy"
FORMER = {"union", "bundled_program", "etrecord"}
"""Options of version 0.4 that went: only that version checks the files that they requested."""
# Packages that affect a conversion's operations, next to the target's own packages.
CONVERTERS = (OURS, "torch")


def written_by_this_version(bundle: Bundle) -> bool:
    """Returns whether this version of the package wrote the bundle."""
    return bundle.manifest.environment.get(OURS) == importlib.metadata.version(OURS)


def written_by(bundle: Bundle) -> tuple[int, ...]:
    """Returns the version of the package that wrote the bundle, without its last number; () if none is recorded."""
    return _parts(bundle.manifest.environment.get(OURS, ""))


def this_version() -> tuple[int, ...]:
    """Returns the version of the package here, without its last number."""
    return _parts(importlib.metadata.version(OURS))


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))[:2]


def other_versions(bundle: Bundle, target: Target) -> str:
    """Returns the packages that affect a conversion and had other versions when the bundle was written; empty for
    none."""
    written = bundle.manifest.environment
    names = (*CONVERTERS, *target.capabilities.packages.all)
    pairs = [(name, written.get(name), importlib.metadata.version(name)) for name in names]
    return ", ".join(f"{name} {then}, here {now}" for name, then, now in pairs if then != now)
