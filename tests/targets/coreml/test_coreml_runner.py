"""On a Mac each compute unit of Core ML is checked by itself; here a stand-in for coremltools' MLModel is run."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from exports import Exports
from writing import subject

from mobileclip_deploy.errors import InvalidInput, RuntimeFailed, UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.coreml.runner import COMPUTE_UNITS, CoreMLRunner
from mobileclip_deploy.targets.mil import load
from mobileclip_deploy.targets.values import as_bytes
from mobileclip_deploy.verify.checks.shipped import check_shipped


class StandIn:
    """coremltools' MLModel as far as the runner uses it: evaluates the package; `wrong` units answer zeros."""

    asked: ClassVar[list[tuple[str, str | None]]] = []
    wrong: ClassVar[set[str]] = set()
    refused: ClassVar[set[str]] = set()

    def __init__(self, path: str, compute_units: Any, function_name: str | None = None) -> None:
        if compute_units.name in self.refused:
            raise RuntimeError("no such unit")
        self.asked.append((compute_units.name, function_name))
        self.unit, self.path = compute_units.name, Path(path)
        self.program = load(path, function_name)

    def get_spec(self) -> Any:
        from coremltools.proto import Model_pb2

        return Model_pb2.Model.FromString((self.path / "Data/com.apple.CoreML/model.mlmodel").read_bytes())

    def predict(self, values: dict[str, Any]) -> dict[str, Any]:
        given = {name: np.asarray(value) for name, value in values.items()}
        found = self.program(given, "float16")
        return {name: value * (self.unit not in self.wrong) for name, value in found.items()}


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    import coremltools as ct

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ct.models, "MLModel", StandIn)
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.5", ("", "", ""), "arm64"))
    for name in ("asked", "wrong", "refused"):
        monkeypatch.setattr(StandIn, name, type(getattr(StandIn, name))())
    return StandIn


@pytest.fixture
def reference(exports: Exports) -> Reference:
    stored = Reference.read(exports.bundle("coreml", "fp16").golden)
    inputs, few = stored.inputs, 2
    return replace(
        stored,
        inputs=replace(inputs, pixels=inputs.pixels[:few], ids=inputs.ids[:few]),
        embeddings={tower: values[:few] for tower, values in stored.embeddings.items()},
    )


def shipped(exports: Exports, tower: TowerName, reference: Reference) -> list[Check]:
    """The checks of a package as written, which needs neither its checkpoint nor a folder to convert into."""
    return check_shipped(subject(exports.bundle("coreml", "fp16"), None, reference, Path()).towers[tower])


@pytest.mark.parametrize("tower", ["image", "text"])
def test_every_compute_unit_is_a_check_whose_engine_names_it(
    exports: Exports, reference: Reference, mac: type[StandIn], tower: Any
) -> None:
    mac.wrong.add("CPU_AND_GPU")
    checks = shipped(exports, tower, reference)
    assert [check.engine for check in checks] == [f"Core ML (macOS 15.5, {unit})" for unit in COMPUTE_UNITS]
    assert [check.status for check in checks] == ["passed", "failed", "passed", "passed"]
    assert [unit for unit, _ in mac.asked] == ["CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL"]


def test_junit_keeps_the_units_apart(exports: Exports, reference: Reference, mac: type[StandIn]) -> None:
    checks = shipped(exports, "text", reference)
    suite = ParityReport(bundle="b", variant="nano", target="coreml", checks=tuple(checks)).suite()
    assert "text shipped on Core ML (macOS 15.5, cpuAndNeuralEngine)" in [case.get("name") for case in suite]


def test_a_unit_that_does_not_load_the_package_is_named_and_none_that_loads_it_is_a_failure(
    exports: Exports, reference: Reference, mac: type[StandIn]
) -> None:
    mac.refused.add("CPU_AND_NE")
    checks = shipped(exports, "text", reference)
    assert [check.status for check in checks] == ["passed", "passed", "not run", "passed"]
    assert "cpuAndNeuralEngine) cannot load" in str(checks[2].detail)
    mac.refused |= {"CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL"}
    with pytest.raises(RuntimeFailed, match=r"Core ML \(macOS 15.5, cpuOnly\) cannot load .*no such unit"):
        shipped(exports, "text", reference)


def test_one_runner_uses_all_units_and_elsewhere_the_evaluator_is_the_only_one(
    exports: Exports, monkeypatch: pytest.MonkeyPatch, mac: type[StandIn]
) -> None:
    path = exports.bundle("coreml", "fp16").artifact("text")
    assert isinstance(get_target("coreml").open(path).runner(), CoreMLRunner)
    assert mac.asked == [("ALL", None)]
    monkeypatch.setattr(sys, "platform", "linux")
    (load_evaluator,) = get_target("coreml").open(path).runners()
    runner = load_evaluator()
    assert runner.engine == "mobileclip_deploy.mil (float16 arithmetic; not Core ML)"


def test_units_that_a_machine_cannot_run_are_left_out(
    exports: Exports, mac: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBILECLIP_COREML_UNITS", "cpuOnly")
    target, bundle = get_target("coreml"), exports.bundle("coreml", "fp16")
    artifact = target.open(bundle.artifact("text"))
    for make in (artifact.runner, *artifact.runners()):
        make()
    assert [unit for unit, _ in mac.asked] == ["CPU_ONLY", "CPU_ONLY"]
    assert [place.compute_units for place in target.places("mac", {})] == ["cpuOnly"]
    monkeypatch.setenv("MOBILECLIP_COREML_UNITS", "cpu")
    with pytest.raises(
        UsageError, match="MOBILECLIP_COREML_UNITS=cpu is not a compute unit; known: cpuOnly, cpuAndGPU"
    ):
        target.places("mac", {})


@pytest.mark.parametrize("value", [-0.1, 1.1, 127.0, float("nan")])
def test_what_is_no_pixel_is_no_byte(value: float) -> None:
    pixels = np.full((1, 3, 2, 2), 0.5, np.float32)
    assert as_bytes(pixels).shape == (1, 2, 2, 3)
    pixels[0, 1, 0, 1] = value
    with pytest.raises(InvalidInput, match="takes pixels in"):
        as_bytes(pixels)
