"""The harness without a driver: its unit tests, and the tiny job by both runtimes, here and on emulated 64-bit ARM."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from benchmark.android import harness, tiny
from conversions import ROOT

from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.benchmark.stream import read_stream

EMULATOR = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")
RUNTIMES = ("onnxruntime", "executorch")
PATIENCE_SECONDS = 300


def bench(program: Path, *arguments: str, emulator: tuple[str, ...] = (), **environment: str) -> str:
    """Run mobileclip-bench to its good end; returns what it told people."""
    done = subprocess.run(
        [*emulator, str(program / "mobileclip-bench"), *arguments],
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
    """The build folder of the preset `aarch64-linux`, from AARs that hold the wheels' libraries."""
    harness.needs("cmake", "ninja", "aarch64-linux-gnu-g++", EMULATOR[0])
    return harness.build("aarch64-linux", arm_libraries)


def test_the_arm_builds_unit_tests_pass_emulated(arm: Path) -> None:
    done = subprocess.run(["ctest", "--test-dir", str(arm), "--output-on-failure"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "100% tests passed" in done.stdout


def test_the_arm_build_measures_emulated(arm: Path, tmp_path: Path) -> None:
    # The kernel here does not start ARM programs: scripts do, in the runners' place.
    (tmp_path / "bin").mkdir()
    for runtime in RUNTIMES:
        script = tmp_path / "bin" / f"mobileclip-bench-{runtime}"
        script.write_text(f'#!/bin/sh\nexec {" ".join(EMULATOR)} {arm}/bin/{script.name} "$@"\n')
        script.chmod(0o755)
    folder = tmp_path / "job"
    plan = tiny.plan(folder, RUNTIMES)
    bench(arm / "bin", str(folder), "--simulated", "--runners", str(tmp_path / "bin"), emulator=EMULATOR)
    result = read_result(folder / f"{plan.job.run_id}.run.json")
    assert_measured(result)
    assert result.device.architecture == "aarch64"
    assert result.runtimes == {name: harness_version(name) for name in RUNTIMES}


def harness_version(package: str) -> str:
    """As the wheel's own library says it; of ExecuTorch the file that its CMake package reads."""
    if package == "onnxruntime":
        import onnxruntime

        return str(onnxruntime.__version__)
    file = harness.package_folder("executorch") / "share/cmake/executorch-config-version.cmake"
    (line,) = [line for line in file.read_text().splitlines() if line.startswith("set(EXECUTORCH_BUILD_VERSION")]
    return line.split('"')[1]


def arm_libraries() -> dict[str, str | Path]:
    """AARs with the libraries of PyPI's aarch64 wheels, and the ExecuTorch wheel's headers."""
    folder = ROOT / "build" / "android" / "aarch64-wheels"
    shutil.rmtree(folder, ignore_errors=True)
    import importlib.metadata

    wanted = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in RUNTIMES]
    version = f"{sys.version_info[0]}{sys.version_info[1]}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
    command += ["--platform", "manylinux_2_28_aarch64", "--python-version", version, *wanted]
    subprocess.run([str(word) for word in command], check=True, timeout=PATIENCE_SECONDS)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    (onnxruntime,) = (folder / "onnxruntime/capi").glob("libonnxruntime.so.*")
    headers = list(Path("/usr/include/onnxruntime").glob("*.h"))
    onnx_aar = {f"headers/{path.name}": path for path in headers} | {"jni/arm64-v8a/libonnxruntime.so": onnxruntime}
    libraries = (folder / "executorch/lib").glob("libexecutorch*.so")
    program_aar = {
        f"jni/arm64-v8a/{path.name}": path for path in libraries if not path.stem.endswith(("openvino", "etdump"))
    }
    return {
        "ONNXRUNTIME_AAR": archive_of(folder / "onnxruntime-android.aar", onnx_aar),
        "EXECUTORCH_AAR": archive_of(folder / "executorch-android.aar", program_aar),
        "EXECUTORCH_ROOT": folder / "executorch",
    }


def archive_of(path: Path, files: dict[str, Path]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in files.items():
            archive.write(file, name)
    return path
