"""How programs measure that run on phones alone: held by their sources."""

from __future__ import annotations

import json
import re
from pathlib import Path

from conversions import ROOT

from mobileclip_deploy.benchmark.android.settings import BUILT
from mobileclip_deploy.benchmark.ios import building
from mobileclip_deploy.targets import get_target

ANDROID = ROOT / "android_harness"


SWIFT = ROOT / "ios_harness" / "HarnessCore" / "Sources" / "HarnessCore"


def read(file: Path) -> str:
    """A source without comments, each run of white space one space."""
    return " ".join(re.sub(r"//.*", "", file.read_text(encoding="utf-8")).split())


def test_an_android_sample_is_the_runtimes_call_alone() -> None:
    sampling = "const auto start = wall_ns(); engine.infer(); end = wall_ns(); samples.push_back(end - start);"
    assert sampling in read(ANDROID / "core/round.cpp")
    (inferring,) = re.findall(
        r"void infer\(\) override \{(.*?)\}\s*std::vector", read(ANDROID / "onnxruntime/engine.cpp")
    )
    assert "memcpy" not in inferring
    assert "std::copy" not in inferring
    assert inferring.count("api_->") == 1
    assert 'line.rfind("VmHWM:", 0)' in read(ANDROID / "core/clock.cpp")


def test_android_runtimes_get_the_cells_threads_and_do_not_spin() -> None:
    assert "SetIntraOpNumThreads(raw, cell.threads)" in read(ANDROID / "onnxruntime/engine.cpp")
    assert "set_threads(cell.threads)" in read(ANDROID / "executorch/engine.cpp")
    litert = read(ANDROID / "litert/engine.cpp")
    assert "compile(cell.threads)" in litert
    assert '"num_threads = " + std::to_string(threads)' in litert
    place, *_ = get_target("onnx").places("android", {})
    assert ("session.intra_op.allow_spinning", "0") in place.options


def test_the_ndk_preset_is_what_its_page_says() -> None:
    (preset,) = [
        one
        for one in json.loads((ANDROID / "CMakePresets.json").read_text())["configurePresets"]
        if one["name"] == "android-arm64"
    ]
    assert (preset["cacheVariables"]["ANDROID_STL"], preset["cacheVariables"]["BUILD_EXECUTORCH"]) == (
        "c++_static",
        "OFF",
    )
    options = 'add_link_options("LINKER:-rpath,$ORIGIN" "LINKER:-z,max-page-size=16384")'
    assert options in read(ANDROID / "cmake/dependencies.cmake")
    assert "cmake_minimum_required(VERSION 3.28)" in read(ANDROID / "CMakeLists.txt")
    assert BUILT == ANDROID / "build/android-arm64/bin"


def test_an_iphones_round_loads_times_and_notes_as_its_page_says() -> None:
    runner = read(SWIFT / "Benchmark/RoundRunner.swift")
    again = (
        "model = Nothing() (model, loading) = try Clock.timed { try runtime.load(cell, at: file) } result.loadAgainNs"
    )
    assert again in runner
    assert "result.thermalState = machine.snapshot().thermalState" in runner
    assert "thread.qualityOfService = .userInitiated" in read(SWIFT / "Benchmark/MeasuringThread.swift")
    machine = read(SWIFT / "Machine/Machine.swift")
    for noted in ("batteryPercent", "charging", "lowPowerMode", "thermalState"):
        assert f"found.{noted} = " in machine
    assert "environment: RunEnvironment(before: progress.before, after: machine.snapshot())" in read(
        SWIFT / "Benchmark/BenchmarkRun.swift"
    )
    command = Path(building.__file__).read_text(encoding="utf-8")
    assert re.search(r'"-configuration",\s*"Release",', command)
    assert not [file for file in SWIFT.rglob("*.swift") if "import UIKit" in file.read_text(encoding="utf-8")]


def test_a_core_ai_sample_is_one_run_in_the_preferred_layout() -> None:
    model = read(SWIFT / "CoreAIRuntime/CoreAIModel.swift")
    sampling = "let before = Clock.wall() _ = try await function.run(inputs: inputs) samples.append("
    assert "return try waitFor { var samples: [Int] = [] samples.reserveCapacity(max(count, 4096)) let start" in model
    assert sampling in model
    assert "var array = NDArray(descriptor: descriptor)" in model
    assert "outputs:" not in sampling


def test_whether_an_iphone_is_simulated_is_decided_by_the_compiler() -> None:
    machine = read(SWIFT / "Machine/Machine.swift")
    (decided,) = re.findall(r"static var isSimulated: Bool \{(.*?)\}|static let isSimulated(.*?)#endif", machine)
    assert "#if" in "".join(decided)
    assert "targetEnvironment(simulator)" in "".join(decided)
    assert len(re.findall(r"simulated: (?!Bool)", machine)) == machine.count("simulated: Machine.isSimulated")
