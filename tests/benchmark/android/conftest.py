"""The harness for this machine, and stand-in phones to run it on."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmark.android import harness
from benchmark.android.standin import Phones


@pytest.fixture(scope="session")
def built() -> Path:
    """The build folder of the preset `host`; its programs are in bin/. MOBILECLIP_TEST_HARNESS: one that is there."""
    if "MOBILECLIP_TEST_HARNESS" in os.environ:
        return Path(os.environ["MOBILECLIP_TEST_HARNESS"])
    harness.needs("cmake", "ninja")
    return harness.build("host", _host_libraries)


@pytest.fixture(scope="session")
def arm() -> Path:
    """The build folder of the preset `aarch64-linux`, against ExecuTorch's wheel and an AAR with ONNX Runtime."""
    harness.needs("cmake", "ninja", "aarch64-linux-gnu-g++", "qemu-aarch64")
    return harness.build("aarch64-linux", harness.arm_libraries)


@pytest.fixture
def phones(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phones]:
    """One stand-in phone, or those that a parameter of the test describes, which the adb on PATH lists."""
    options = getattr(request, "param", {})
    own_shell = ("mksh", "toybox") if options.get("own_shell") else ()
    harness.needs("adb", "adbd", "unshare", "ip", *own_shell, headers=False)
    with Phones(tmp_path / "phones", **options) as found:
        monkeypatch.setenv("PATH", found.path)
        yield found


def _host_libraries() -> dict[str, str | Path]:
    library = next((harness.package_folder("onnxruntime") / "capi").glob("libonnxruntime.so.*"))
    roots = {"EXECUTORCH_ROOT": "executorch", "LITERT_ROOT": "ai_edge_litert"}
    return {"ONNXRUNTIME_LIBRARY": library} | {name: harness.package_folder(one) for name, one in roots.items()}
