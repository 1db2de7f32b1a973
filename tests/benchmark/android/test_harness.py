"""The harness without a driver: its unit tests, and the tiny job by both runtimes, here and on emulated 64-bit ARM."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from benchmark.android import harness, tiny
from benchmark.android.harness import SOURCE
from benchmark.android.standin import Phones
from conversions import ROOT

from mobileclip_deploy.benchmark.android.driver import AndroidDriver
from mobileclip_deploy.benchmark.android.ready import ready_runners
from mobileclip_deploy.benchmark.android.settings import AndroidSettings
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.benchmark.stream import read_stream
from mobileclip_deploy.errors import RuntimeFailed
from mobileclip_deploy.inspect.doctor import tools

RUNTIMES = ("onnxruntime", "executorch")
WHEELS = ROOT / "build" / "android" / "aarch64-wheels"
PATIENCE_SECONDS = 300


def bench(program: Path, *arguments: str, **environment: str) -> str:
    """Run mobileclip-bench to its good end; returns what it told people."""
    done = subprocess.run(
        [str(program / "mobileclip-bench"), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def run(folder: Path, programs: Path, *arguments: str, **environment: str) -> Result:
    """The tiny job by both runtimes."""
    plan = tiny.plan(folder, RUNTIMES)
    bench(programs, str(folder), *arguments, **environment)
    result = read_result(folder / f"{plan.job.run_id}.run.json")
    assert result.job == plan.job
    assert {cell.id: cell.rounds for cell in result.cells} == {
        name: tuple(item for item in read_stream(plan.stream, plan.job) if item.cell == name)
        for name in (cell.id for cell in plan.job.cells)
    }
    return result


def assert_measured(result: Result) -> None:
    assert [(cell.status, cell.error) for cell in result.cells] == [("done", None)] * 2
    for cell in result.cells:
        assert cell.golden is not None
        assert (cell.golden.inputs, cell.golden.passed) == (2, True)
        assert cell.summary is not None
        assert cell.summary.samples == 6
        assert cell.summary.cpu_ns


def test_the_unit_tests_pass(built: Path) -> None:
    done = subprocess.run(["ctest", "--test-dir", str(built), "--output-on-failure"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "100% tests passed" in done.stdout


def test_its_record_is_what_the_schema_says(built: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "job", built / "bin", "--simulated")
    assert_measured(result)
    assert result.device.simulated
    assert set(result.runtimes) == set(RUNTIMES)
    assert result.environment.after is not None
    assert result.harness.name == "mobileclip-bench"


def test_one_binary_runs_another_version_of_onnx_runtime(built: Path, tmp_path: Path) -> None:
    harness.needs("cmake")
    (other,) = Path("/usr/lib").glob("*-linux-gnu/libonnxruntime.so.1.*.*")  # Debian's, which its headers bring along
    result = run(tmp_path / "job", built / "bin", MOBILECLIP_ONNXRUNTIME=str(other))
    assert_measured(result)
    assert result.runtimes["onnxruntime"] == other.name.removeprefix("libonnxruntime.so.")
    assert result.runtimes["onnxruntime"] != harness_version("onnxruntime")


def test_a_runtime_that_is_missing_fails_its_cells_and_no_others(built: Path, tmp_path: Path) -> None:
    plan = tiny.plan(tmp_path / "job", RUNTIMES)
    bench(built / "bin", str(tmp_path / "job"), MOBILECLIP_ONNXRUNTIME="/no/such/library.so")
    result = read_result(tmp_path / "job" / f"{plan.job.run_id}.run.json")
    assert [cell.status for cell in result.cells] == ["failed", "done"]
    assert result.cells[0].error is not None
    assert "/no/such/library.so" in result.cells[0].error
    assert result.cells[0].error.endswith("put libonnxruntime.so beside this program")


def test_wrong_use_is_told(built: Path, tmp_path: Path) -> None:
    program = str(built / "bin/mobileclip-bench")
    for arguments, said in (
        ([], "usage: mobileclip-bench FOLDER"),
        (["--surprise"], "usage: mobileclip-bench FOLDER"),
        ([str(tmp_path)], f"no job.json in {tmp_path}: name the job's folder"),
    ):
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        assert done.returncode == 2
        assert said in done.stderr


@pytest.fixture(scope="session")
def arm() -> Path:
    """The build folder of the preset `aarch64-linux`, against ExecuTorch's wheel and an AAR with ONNX Runtime."""
    harness.needs("cmake", "ninja", "aarch64-linux-gnu-g++", "qemu-aarch64")
    return harness.build("aarch64-linux", arm_libraries)


def test_the_arm_builds_unit_tests_pass_emulated(arm: Path) -> None:
    done = subprocess.run(["ctest", "--test-dir", str(arm), "--output-on-failure"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "100% tests passed" in done.stdout


@pytest.fixture
def package(arm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of ready runners, as an installation has it, and a cache that holds nothing."""
    place = tmp_path / "installed" / "mobileclip_deploy_android"
    place.mkdir(parents=True)
    shutil.copy(SOURCE / "runners/mobileclip_deploy_android/__init__.py", place)
    assembling().assemble(arm / "bin", WHEELS, place / "files")
    monkeypatch.syspath_prepend(place.parent)
    monkeypatch.setitem(sys.modules, place.name, None)  # absent before: what is imported goes again
    del sys.modules[place.name]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # The wheels come from the folder that they were fetched into, by pip as always.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(WHEELS))
    return place / "files"


def test_with_adb_and_python_alone_both_runtimes_are_measured_on_an_emulated_arm_phone(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.needs("adb", "adbd", "unshare", "ip", headers=False)
    told: list[str] = []
    with Phones(tmp_path / "phones", arm=True) as phones:
        monkeypatch.setenv("PATH", str(phones.folder / "host"))
        driver = AndroidDriver(settings=AndroidSettings(folder=f"{phones.storage}/x"))
        result = assemble(driver.run(tiny.plan(tmp_path / "job", RUNTIMES), told.append))
    assert_measured(result)
    assert (result.device.architecture, result.device.simulated) == ("arm64-v8a", True)
    assert result.runtimes == {name: harness_version(name) for name in RUNTIMES}
    assert result.harness.c_library == "glibc"
    assert any("compare it with other glibc results only" in text for text in run_warnings(result))
    assert [text for text in told if text.endswith("for the phone from PyPI")] != []
    assert {
        path.name.partition("-")[0] for path in (tmp_path / "cache/mobileclip-deploy/android-runners").iterdir()
    } == {*RUNTIMES}
    # From now on from the cache; what is damaged there is fetched again, and a damaged package is told.
    told.clear()
    files = ready_runners(package, frozenset({"onnxruntime"}), told.append)
    assert told == []
    (library,) = [file for file in files if file.name == "libonnxruntime.so"]
    library.write_bytes(b"damaged")
    ready_runners(package, frozenset({"onnxruntime"}), told.append)
    assert [text.partition(" ")[0] for text in told] == ["fetching", "unpacking"]
    (package / "libc.so.6").write_bytes(b"damaged")
    with pytest.raises(RuntimeFailed, match=r"libc\.so\.6 is missing or damaged: type pip install --force-reinstall"):
        ready_runners(package, frozenset({"onnxruntime"}), told.append)


def test_doctor_lists_the_ready_runners(package: Path) -> None:
    (found,) = [tool for tool in tools() if tool.name == "ready runners"]
    versions = ", ".join(f"{name} {harness_version(name).partition('+')[0]}" for name in sorted(RUNTIMES))
    assert found.path is not None
    assert found.path.endswith(f"for {versions})")


def test_what_cannot_be_built_for_a_phone_is_refused_when_it_is_configured(tmp_path: Path) -> None:
    harness.needs("cmake", "ninja")
    command = ["cmake", "--preset", "host", "-B", str(tmp_path), "-DBUILD_ONNXRUNTIME=OFF", "-DBUILD_TESTS=OFF"]
    done = subprocess.run([*command, "-DEXECUTORCH_AAR=executorch.aar"], cwd=SOURCE, capture_output=True, text=True)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "its AAR exports JNI functions only" in said
    assert "Use the ready runners (pip install 'mobileclip-deploy[android]')" in said


def harness_version(package: str) -> str:
    """As the wheel's own library says it; of ExecuTorch the file that its CMake package reads."""
    if package == "onnxruntime":
        import onnxruntime

        return str(onnxruntime.__version__)
    file = harness.package_folder("executorch") / "share/cmake/executorch-config-version.cmake"
    (line,) = [line for line in file.read_text().splitlines() if line.startswith("set(EXECUTORCH_BUILD_VERSION")]
    return line.split('"')[1]


def assembling() -> Any:
    """What fills the package of ready runners (android_harness/runners/assemble.py)."""
    spec = importlib.util.spec_from_file_location("assemble", SOURCE / "runners" / "assemble.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arm_libraries() -> dict[str, str | Path]:
    """An AAR with the library of ONNX Runtime's aarch64 wheel, and ExecuTorch's wheel."""
    folder = assembling().fetch(WHEELS)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    (onnxruntime,) = (folder / "onnxruntime/capi").glob("libonnxruntime.so.*")
    headers = list(Path("/usr/include/onnxruntime").glob("*.h"))
    onnx_aar = {f"headers/{path.name}": path for path in headers} | {"jni/arm64-v8a/libonnxruntime.so": onnxruntime}
    return {
        "ONNXRUNTIME_AAR": archive_of(folder / "onnxruntime-android.aar", onnx_aar),
        "EXECUTORCH_ROOT": folder / "executorch",
    }


def archive_of(path: Path, files: dict[str, Path]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in files.items():
            archive.write(file, name)
    return path
