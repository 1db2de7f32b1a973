"""What the tests of iPhone and Mac share: the Swift harness, and a folder that is a phone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from benchmark.ios.phone_folder import FolderPhone, swift_build

from mobileclip_deploy.benchmark.ios import building
from mobileclip_deploy.benchmark.ios.driver import IosDriver
from mobileclip_deploy.benchmark.ios.following import Patience


@pytest.fixture(scope="session")
def swift() -> Path:
    """The folder with the Swift programs, built for this machine."""
    return swift_build()


@pytest.fixture
def phone(tmp_path: Path, swift: Path, monkeypatch: pytest.MonkeyPatch) -> FolderPhone:
    """A phone that is ready; the Swift harness runs in it for real, on a stand-in for Core ML."""
    if sys.platform == "darwin":
        pytest.skip("the stand-in for Core ML needs Linux; on a Mac, use --device mac and a phone")
    found = FolderPhone(tmp_path / "phone", swift / "mobileclip-harness")
    found.prepare(tmp_path / "tools")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_PHONE", str(found.folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(building.TEAM_VARIABLE, "A1B2C3D4E5")
    monkeypatch.setattr(IosDriver, "patience", Patience(between=0.05, broken=0.5, still=20))
    return found
