"""A stand-in of the service, with this user signed in, and programs for its phones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmark.android import harness
from benchmark.android.conftest import built as built
from benchmark.android.scripted import scripted_runners
from benchmark.ddp.standin import Cloud, device_run, sign_in

from mobileclip_deploy.benchmark.ddp import driver


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The service for a signed-in user without gcloud."""
    harness.needs("mksh", headers=False)
    for name in ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG", "APPDATA", "MOBILECLIP_DDP_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.01)
    shown = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *more: None if name == "gcloud" else shown(name, *more))
    with device_run(tmp_path / "cloud") as (service, address):
        monkeypatch.setenv("MOBILECLIP_DDP_SERVER", address)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(sign_in(home / "adc.json")))
        yield service


@pytest.fixture
def programs(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real harness with a scripted runner, which is what phones get."""
    folder = scripted_runners(built, tmp_path / "programs")
    monkeypatch.setenv("MOBILECLIP_ANDROID_RUNNERS", str(folder))
    return folder
