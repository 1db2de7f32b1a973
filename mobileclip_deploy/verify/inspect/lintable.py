"""Refusal of files that cannot be linted, by name, before torch is imported."""

from pathlib import Path

from mobileclip_deploy.artifacts.bundle import MANIFEST
from mobileclip_deploy.base.files import check_there
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets import target_of, targets


def check_lintable(path: Path) -> None:
    """Refuses a path that is neither an artifact nor a bundle.

    Raises:
        InvalidInput: it is neither.
        UsageError: it is an artifact of a target that this package no longer has.
    """
    check_there(path)
    if target_of(path) is None and not (path / MANIFEST).is_file():
        formats = [target.capabilities.formats for target in targets().values()]
        suffixes = dict.fromkeys(suffix for each in formats for suffix in each.suffixes)
        raise InvalidInput(f"{path} is neither an artifact ({', '.join(suffixes)}) nor a bundle (no {MANIFEST})")
