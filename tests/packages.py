"""Packages that some systems have: what asks for one says how to install it."""

import importlib.util
import platform
import sys

from programs import missing

LINUX = (sys.platform, platform.machine()) == ("linux", "x86_64")


def require_package(module: str, needs: str, here: bool = LINUX) -> None:
    """Skip the test or the module that calls it where a package is missing; in CI it fails. `here`: whether `.[test]`
    has the package on this system."""
    if importlib.util.find_spec(module) is None:
        missing(needs, here)
