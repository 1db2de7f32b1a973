"""Where the Swift sources are."""

from __future__ import annotations

from pathlib import Path

from mobileclip_deploy.errors import RuntimeFailed

__all__ = ["harness_sources"]


def harness_sources() -> Path:
    """The folder ios_harness: beside the modules in a wheel, at the top of the repository in a checkout.

    Raises:
        RuntimeFailed: this installation came without it.
    """
    package = Path(__file__).parents[2]
    for folder in (package / "ios_harness", package.parent / "ios_harness"):
        if (folder / "HarnessCore" / "Package.swift").is_file():
            return folder
    raise RuntimeFailed("the Swift harness is not part of this installation; install mobileclip-deploy from its wheel")
