"""What the tests of iPhone and Mac share: a folder that is a phone."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark.ios.phone_folder import FolderPhone, IphoneBenchmark
from exports import Exports

from mobileclip_deploy.benchmark.ios import building
from mobileclip_deploy.benchmark.ios import phone as device_calls
from mobileclip_deploy.benchmark.ios.driver import IosDriver
from mobileclip_deploy.benchmark.ios.following import Patience
from mobileclip_deploy.parity.reference import Reference


@pytest.fixture
def phone(tmp_path: Path, swift: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FolderPhone]:
    """A phone that is ready; the Swift harness runs in it for real, on a stand-in for Core ML."""
    if sys.platform == "darwin":
        pytest.skip("the stand-in for Core ML needs Linux; on a Mac, use --device mac and a phone")
    found = FolderPhone(tmp_path / "phone", swift / "mobileclip-harness").prepare(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(building.TEAM_VARIABLE, "A1B2C3D4E5")
    monkeypatch.setattr(device_calls, "PAUSES", (0.01,) * 3)
    monkeypatch.setattr(IosDriver, "patience", Patience(between=0.05, broken=0.5, still=20))
    yield found
    found.switch_off()


@pytest.fixture(scope="module")
def answers(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The golden inputs as Core ML and Core AI get them, and the checkpoint's answers, for the stand-in to give."""
    folder = tmp_path_factory.mktemp("answers")
    reference = Reference.read(exports.bundle("coreml", "fp16").golden)
    pixels = (reference.inputs.of("image") * 255).round().astype("uint8")
    found = []
    for name, inputs in (
        ("image", pixels),
        ("pixels", reference.inputs.of("image").astype("<f4")),  # as Core AI gets them
        ("text", reference.inputs.of("text").astype("<i4")),
    ):
        tower = "text" if name == "text" else "image"
        (folder / f"{name}.inputs").write_bytes(inputs.tobytes())
        (folder / f"{name}.outputs").write_bytes(reference.of(tower).astype("<f4").tobytes())
        found.append({"inputs": f"{folder}/{name}.inputs", "outputs": f"{folder}/{name}.outputs", "count": len(inputs)})
    return found


@pytest.fixture
def benchmark(phone: FolderPhone, answers: list[dict[str, Any]], exports: Exports, tmp_path: Path) -> IphoneBenchmark:
    """`benchmark --device ios --quick` of nano, on a phone that answers rightly."""
    phone.core_ml(answers=answers)
    return IphoneBenchmark(exports.bundle("coreml", "fp16").path, tmp_path / "result.json", answers)
