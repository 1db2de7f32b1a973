"""What all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported; see mobileclip_deploy.cli.main

import pytest
from exports import Exports
from swift_package import swift_build


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Bundles of the built-in network, exported once."""
    return Exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def swift() -> Path:
    """The folder with the Swift programs and tests of ios_harness."""
    return swift_build()


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str, str], str]:
    """Name of a program and how to install it -> its path; without it the test is skipped, and in CI it fails."""

    def find(name: str, install: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing = f"needs {name}: {install}"
            pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
        return path

    return find
