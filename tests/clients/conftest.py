"""What tests of several clients share."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from java_client import JavaClient, built


@pytest.fixture
def seed() -> int:
    """Another one in each run; a failure shows it."""
    chosen = secrets.randbelow(2**31)
    print(f"seed {chosen}")
    return chosen


@pytest.fixture(scope="module")
def client(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> JavaClient:
    """The Java package and its tests' programs."""
    return built(require_tool, tmp_path_factory.mktemp("java"))
