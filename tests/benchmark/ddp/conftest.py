"""A stand-in of the service, with this user signed in, and programs for its phones."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmark.android import harness
from benchmark.android.conftest import arm as arm
from benchmark.android.conftest import built as built
from benchmark.android.scripted import scripted_runners
from benchmark.ddp.standin import Cloud, device_run, install_gcloud

from mobileclip_deploy.benchmark.ddp import driver


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The service, without gcloud."""
    harness.needs("mksh", headers=False)
    for name in ("GOOGLE_CLOUD_PROJECT", "MOBILECLIP_DDP_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.01)
    with device_run(tmp_path / "cloud") as found:
        yield found


@pytest.fixture
def cloud(service: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The service, and a gcloud that is signed in."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(install_gcloud(tools, service, ready=True)), prepend=":")
    return service


@pytest.fixture
def programs(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real harness with a scripted runner, which is what phones get."""
    folder = scripted_runners(built, tmp_path / "programs")
    monkeypatch.setenv("MOBILECLIP_ANDROID_RUNNERS", str(folder))
    return folder
