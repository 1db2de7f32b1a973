"""What all tests share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported; see mobileclip_deploy.cli.main

import pytest
from exports import Exports


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Bundles of the built-in network, exported once."""
    return Exports(tmp_path_factory.mktemp("exports"))
