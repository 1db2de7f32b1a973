"""What macos.yml runs that needs Xcode, on the stand-in for it; what needs Core ML itself runs on a Mac alone."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from benchmark.ios.phone_folder import FolderPhone
from conversions import ROOT

APP = "MobileCLIPBench"
SIMULATORS = {
    "com.apple.CoreSimulator.SimRuntime.tvOS-18-5": [{"udid": "A", "name": "Apple TV", "state": "Shutdown"}],
    "com.apple.CoreSimulator.SimRuntime.iOS-17-5": [{"udid": "C", "name": "iPhone 15", "state": "Shutdown"}],
    "com.apple.CoreSimulator.SimRuntime.iOS-18-5": [
        {"udid": "D", "name": "iPad (A16)", "state": "Shutdown"},
        {"udid": "B", "name": "iPhone 16", "state": "Booted"},
    ],
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the scripts read and write in."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / ".github" / "scripts", folder / ".github" / "scripts")
    for name in ("App", "Farm", "tools"):
        shutil.copytree(ROOT / "ios_harness" / name, folder / "ios_harness" / name)
    return folder


@pytest.fixture
def xcode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderPhone:
    """`xcodebuild` and `xcrun`; no harness is started."""
    return FolderPhone(tmp_path / "phone", tmp_path / "none").prepare(monkeypatch)


def script(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([path], capture_output=True, text=True)


def test_the_app_is_packed_unsigned_and_the_farms_test_is_built(checkout: Path, xcode: FolderPhone) -> None:
    done = script(checkout / ".github/scripts/macos_app.sh")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(checkout / f"build/{APP}-unsigned.ipa") as archive:
        assert f"Payload/{APP}.app/bundle_id" in archive.namelist()
        assert all(name.startswith("Payload/") for name in archive.namelist())
    assert (checkout / f"build/farm/Build/Products/Release-iphoneos/{APP}.app").is_dir()
    platform, *builds = xcode.calls()
    assert platform == ["xcodebuild", "-downloadPlatform", "iOS"]  # which newer Xcodes come without
    for call in builds:
        assert call[0] == "xcodebuild"
        assert {"CODE_SIGNING_ALLOWED=NO", "generic/platform=iOS"} <= set(call)


def test_an_app_that_does_not_build_is_not_packed(checkout: Path, xcode: FolderPhone) -> None:
    xcode.settings(xcodebuild_says="error: cannot find 'Session' in scope")
    done = script(checkout / ".github/scripts/macos_app.sh")
    assert (done.returncode, done.stderr) == (65, "error: cannot find 'Session' in scope\n")
    assert not list(checkout.rglob("*.ipa"))


def test_the_app_is_started_in_the_newest_iphone_simulator(checkout: Path, phone: FolderPhone) -> None:
    phone.settings(simulators=SIMULATORS)
    done = script(checkout / "ios_harness/tools/simulator_start.sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"made the folders in {phone.folder}/Documents\n")
    assert (phone.folder / "Documents/runs/first-start/models/a").is_dir()


def test_without_a_simulator_of_an_iphone_it_says_how_to_get_one(checkout: Path, xcode: FolderPhone) -> None:
    xcode.settings(simulators={name: [] for name in SIMULATORS})
    done = script(checkout / "ios_harness/tools/simulator_start.sh")
    assert (done.returncode, done.stderr) == (
        1,
        "no simulator of an iPhone is here: xcodebuild -downloadPlatform iOS\n",
    )
