"""From a bundle to a table and back, through the real harness: what the folder that is a phone cannot show is Core ML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark.ios.phone_folder import UDID, FolderPhone
from command_line import Outcome, run
from exports import Exports

from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.reference import Reference

UNITS = ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")


@pytest.fixture(scope="session")
def answers(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The golden inputs as Core ML gets them, and the checkpoint's answers, for the stand-in to give."""
    folder = tmp_path_factory.mktemp("answers")
    reference = Reference.read(exports.bundle("coreml", "fp16").golden)
    pixels = (reference.inputs.of("image") * 255).round().astype("uint8")
    found = []
    for tower, inputs in (("image", pixels), ("text", reference.inputs.of("text").astype("<i4"))):
        (folder / f"{tower}.inputs").write_bytes(inputs.tobytes())
        (folder / f"{tower}.outputs").write_bytes(reference.of(tower).astype("<f4").tobytes())
        found.append(
            {"inputs": f"{folder}/{tower}.inputs", "outputs": f"{folder}/{tower}.outputs", "count": len(inputs)}
        )
    return found


@pytest.fixture
def benchmark(phone: FolderPhone, answers: list[dict[str, Any]], exports: Exports, tmp_path: Path) -> Benchmark:
    """`benchmark --device ios --quick` of nano, on a phone that answers rightly."""
    phone.core_ml(answers=answers)
    return Benchmark(exports.bundle("coreml", "fp16").path, tmp_path / "result.json")


class Benchmark:
    def __init__(self, bundle: Path, output: Path) -> None:
        self.bundle, self.output = bundle, output

    def __call__(self, *more: str, device: str = "ios") -> Outcome:
        return run("benchmark", self.bundle, "--device", device, "--quick", "--json", self.output, *more)


def test_a_job_goes_to_the_phone_and_its_result_comes_back(benchmark: Benchmark, phone: FolderPhone) -> None:
    done = benchmark()
    assert done.code == 0, done.stderr
    result = read_result(benchmark.output)
    assert [cell.compute_units for cell in result.job.cells] == [*UNITS, *UNITS]
    for cell in result.cells:
        assert cell.status == "done", cell.error
        assert cell.golden is not None
        assert cell.golden.cosine > 0.999999
        assert [len(item.samples_ns) for item in cell.rounds] == [3, 3]
        assert cell.load_again_ns is not None
        assert cell.peak_memory_bytes is not None
    assert result.harness.quality_of_service == "userInitiated"
    assert not benchmark.output.with_name("result.json.partial").exists()


def test_nothing_of_a_stand_in_can_be_taken_for_a_phones(benchmark: Benchmark) -> None:
    table = benchmark().stdout
    result = read_result(benchmark.output)
    assert result.device.simulated
    assert (result.device.name, result.device.os) == ("stand-in", "Linux")
    assert result.runtimes == {"coreml": "stand-in"}
    assert "SIMULATED" in table
