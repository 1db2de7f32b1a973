"""What all tests share."""

from __future__ import annotations

import os
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
