"""What can be linted, told by its name before torch is imported."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.bundle import MANIFEST
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import check_there
from mobileclip_deploy.targets import Target, target_of, targets


def readable_targets() -> tuple[Target, ...]:
    """Those whose artifacts can be followed operation by operation."""
    return tuple(target for target in targets().values() if target.abilities.readable)


def check_lintable(path: Path) -> None:
    """Refuse what is neither an artifact nor a bundle.

    Raises:
        InvalidInput: see there.
        UsageError: it is an artifact of a target that has left the package.
    """
    check_there(path)
    if target_of(path) is None and not (path / MANIFEST).is_file():
        raise unlintable(path)


def unlintable(path: Path) -> InvalidInput:
    """What to say of a path that is neither."""
    known = " or ".join(suffix for one in readable_targets() for suffix in one.abilities.suffixes)
    return InvalidInput(f"{path} is neither a {known} nor a bundle (no {MANIFEST})")
