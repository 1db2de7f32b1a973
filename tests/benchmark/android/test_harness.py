"""The harness without a driver: its unit tests, and the tiny job by every runtime, here and on emulated 64-bit ARM."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from benchmark.android import harness, tiny
from benchmark.android.harness import SOURCE
from elf import PAGE
from programs import output

from mobileclip_deploy.benchmark.android.settings import LIBRARIES
from mobileclip_deploy.benchmark.answers import judge
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.documents import parse_document, read_stream
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.result import Result, Run

RUNTIMES = ("onnxruntime", "executorch", "litert")
PATIENCE_SECONDS = 300


def run(plan: Plan, programs: Path, *words: str, **environment: str) -> Result:
    """What the record of a run to its good end says, with its answers judged."""
    command = (programs / "mobileclip-bench", plan.folder, *words)
    output(*command, timeout=PATIENCE_SECONDS, env=os.environ | environment)
    name = f"{plan.job.run_id}.run.json"
    record = parse_document((plan.folder / name).read_text(), Run, name)
    assert record.job == plan.job
    rounds = sorted(read_stream(plan.stream, plan.job), key=str)
    assert sorted(record.rounds, key=str) == rounds
    judged = tuple(judge(item, plan.job, plan.expected) for item in rounds)
    return assemble(record.model_copy(update={"rounds": judged}))


def assert_measured(result: Result) -> None:
    assert [(cell.status, cell.error) for cell in result.cells] == [("done", None)] * len(RUNTIMES)
    for cell in result.cells:
        assert (cell.golden.inputs, cell.golden.passed) == (2, True)
        assert cell.summary.samples == 6
        assert cell.summary.cpu_ns


def test_its_record_is_what_the_schema_says(built: Path, tmp_path: Path) -> None:
    result = run(tiny.plan(tmp_path / "job", RUNTIMES), built / "bin", "--simulated")
    assert_measured(result)
    assert result.device.simulated
    assert result.runtimes == {name: harness.version(name) for name in RUNTIMES}
    assert result.environment.after is not None
    assert result.harness.name == "mobileclip-bench"


def test_one_binary_runs_another_version_of_onnx_runtime(built: Path, tmp_path: Path) -> None:
    harness.needs("cmake")
    (other,) = Path("/usr/lib").glob("*-linux-gnu/libonnxruntime.so.1.*.*")  # Debian's, which its headers bring along
    result = run(tiny.plan(tmp_path / "job", RUNTIMES), built / "bin", MOBILECLIP_ONNXRUNTIME=str(other))
    assert_measured(result)
    assert result.runtimes["onnxruntime"] == other.name.removeprefix("libonnxruntime.so.")
    assert result.runtimes["onnxruntime"] != harness.version("onnxruntime")


def test_a_runtime_that_is_missing_fails_its_cells_and_no_others(built: Path, tmp_path: Path) -> None:
    absent = "/no/such/library.so"
    result = run(tiny.plan(tmp_path / "job", RUNTIMES), built / "bin", MOBILECLIP_ONNXRUNTIME=absent)
    assert [cell.status for cell in result.cells] == ["failed", "done", "done"]
    assert absent in result.cells[0].error
    assert result.cells[0].error.endswith("put libonnxruntime.so next to this program")


@pytest.fixture
def with_gpu(built: Path, tmp_path: Path) -> dict[str, str]:
    """Vulkan in software, which Mesa has for machines without a GPU; the library for it lies beside the runtime's."""
    (tmp_path / "libLiteRt.so.metadata").symlink_to(built / "bin/libLiteRt.so.metadata")
    for library in ("libLiteRt.so", "libLiteRtWebGpuAccelerator.so"):
        (tmp_path / library).symlink_to(harness.package_folder("ai_edge_litert") / library)
    return {"VK_ICD_FILENAMES": harness.software_vulkan(), "MOBILECLIP_LITERT": str(tmp_path / "libLiteRt.so")}


def test_litert_runs_on_a_gpu_and_computes_in_float16_there(
    built: Path, tmp_path: Path, with_gpu: dict[str, str]
) -> None:
    plan = tiny.plan(tmp_path / "job", ("litert",), bound=3e-3, rounds=1, backends=("cpu", "gpu"))
    cpu, gpu = run(plan, built / "bin", **with_gpu).cells
    assert [cpu.status, gpu.status, gpu.error] == ["done", "done", None]
    assert cpu.golden.relative < 1e-5
    assert 1e-4 < (gpu.golden.relative or 0) < 3e-3


def test_a_model_with_an_operation_that_the_gpu_lacks_is_not_run_on_the_cpu_in_its_name(
    built: Path, tmp_path: Path, with_gpu: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.FILES, "litert", ("tiny.tflite", lambda: tiny.flatbuffer(capped=True)))
    plan = tiny.plan(tmp_path / "job", ("litert",), rounds=1, backends=("gpu",))
    (cell,) = run(plan, built / "bin", **with_gpu).cells
    assert (cell.status, cell.summary) == ("failed", None)
    assert "LiteRT cannot compile all of the model for the GPU: compilation failed (status 504); " in str(cell.error)
    assert str(cell.error).endswith("verify --place gpu names what it lacks")


def test_litert_without_a_gpu_fails_that_cell_and_says_what_is_missing(built: Path, tmp_path: Path) -> None:
    plan = tiny.plan(tmp_path / "job", ("litert",), rounds=1, backends=("cpu", "gpu", "npu"))
    cells = run(plan, built / "bin").cells
    assert [cell.status for cell in cells] == ["done", "failed", "failed"]
    assert "LiteRT has no library for the GPU that loads here" in str(cells[1].error)
    assert cells[2].error == "LiteRT place npu is unknown here; known: cpu, gpu"


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (None, "/no/such/library.so"),
        ("onnxruntime", "is no LiteRT from 2.1.6 on: it lacks LiteRtCreateModelFromFd"),
        ("litert", "libLiteRt.so.metadata does not say which version of LiteRT this is"),
    ],
    ids=["missing", "another", "unknown version"],
)
def test_a_litert_that_cannot_be_used_is_told(built: Path, tmp_path: Path, library: str | None, said: str) -> None:
    names = {"onnxruntime": "libonnxruntime.so", "litert": "libLiteRt.so"}
    file = tmp_path / "libLiteRt.so" if library else Path("/no/such/library.so")
    if library:
        file.symlink_to(built / "bin" / names[library])
    done = subprocess.run(
        [str(built / "bin/mobileclip-bench-litert"), "--version"],
        capture_output=True,
        text=True,
        env=os.environ | {"MOBILECLIP_LITERT": str(file)},
    )
    assert done.returncode == 3
    assert said in done.stderr


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


@pytest.mark.slow
def test_the_arm_builds_unit_tests_pass_emulated(arm: Path) -> None:
    assert "100% tests passed" in harness.unit_tests(arm)


def test_what_cannot_be_built_for_a_phone_is_refused_when_it_is_configured(tmp_path: Path) -> None:
    harness.needs("cmake", "ninja")
    command = ["cmake", "--preset", "host", "-B", str(tmp_path), "-DBUILD_ONNXRUNTIME=OFF", "-DBUILD_TESTS=OFF"]
    done = subprocess.run([*command, "-DEXECUTORCH_AAR=executorch.aar"], cwd=SOURCE, capture_output=True, text=True)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "its AAR exports JNI functions only" in said
    assert "Use the ready runners (make android-runners)" in said


def test_the_real_aar_is_what_the_build_and_the_runner_expect() -> None:
    """The AAR that npm has is too large to fetch for a test. onnxruntime_aar.json holds what was listed of it once."""
    real = json.loads(Path(__file__).with_name("onnxruntime_aar.json").read_text())
    assert {"headers/onnxruntime_c_api.h", "jni/arm64-v8a/libonnxruntime.so"} <= set(real["files"])
    library = real["arm64-v8a"]
    looked_up = re.findall(r'dlsym\(\w+, "(\w+)"\)', (SOURCE / "onnxruntime/engine.cpp").read_text())
    assert looked_up
    assert set(looked_up) <= set(library["exported"])
    assert library["soname"] == LIBRARIES["onnxruntime"][0]
    # Every Android has these; so nothing has to be pushed beside the library, no C++ runtime either.
    assert set(library["needed"]) <= {"libandroid.so", "libc.so", "libdl.so", "liblog.so", "libm.so"}
    # As ours are linked: it loads where pages have 16 KB.
    assert set(real["alignments"]) == {name for name in real["files"] if name.endswith(".so")}
    assert {one for found in real["alignments"].values() for one in found} == {PAGE}
    assert f"max-page-size={PAGE}" in (SOURCE / "cmake/dependencies.cmake").read_text()
