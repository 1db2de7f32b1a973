"""Several bundles of one export: each succeeds or fails alone, all are in the result, and the worst decides."""

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import ExportError, GateFailed, MobileClipDeployError, NotRun
from mobileclip_deploy.export import steps
from mobileclip_deploy.export.steps import ExportGateFailed, ExportState, NotWritten, Written

pytestmark = pytest.mark.slow  # test_api.py exports lists

TARGETS = ("onnx", "coreml", "litert")
NAMES = [f"nano-{target}-fp16" for target in TARGETS]
Plant = Callable[..., None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Has the check of these targets raise; nothing else is checked."""

    def plant(**errors: Callable[[ExportState], MobileClipDeployError]) -> None:
        def check(work: ExportState) -> None:
            if (error := errors.get(work.plan.target.name)) is not None:
                raise error(work)

        monkeypatch.setattr(steps, "STEPS", tuple(check if one is steps.check else one for one in steps.STEPS))

    return plant


def gate(work: ExportState) -> MobileClipDeployError:
    assert work.manifest is not None
    report = mcd.ParityReport(bundle="", variant="nano", target="", checks=())
    bundle = mcd.Bundle(work.plan.path, work.manifest)
    return ExportGateFailed(f"{work.plan.target.name} is too far off", Written(bundle, report, written=False))


def broken(work: ExportState) -> MobileClipDeployError:
    return ExportError(f"{work.plan.target.name} cannot be converted")


def test_a_failing_gate_does_not_stop_the_other_targets(failing: Plant, tmp_path: Path) -> None:
    failing(onnx=gate)
    found = run("export", "--target", ",".join(TARGETS), "--precision", "fp16", "--tower", "image", "-o", tmp_path)
    assert found.code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES[1:])
    assert all(name in found.stdout for name in NAMES)
    assert f"not written: {tmp_path / NAMES[0]}" in " ".join(found.stdout.split())
    assert found.stderr.endswith("onnx is too far off\n")


def test_the_worst_error_decides_and_carries_all_results(failing: Plant, tmp_path: Path) -> None:
    failing(onnx=broken, litert=gate)
    said = r"2 of 3 bundles were not written: nano-onnx-fp16 \(onnx cannot .*nano-litert-fp16 \(litert is too far off\)"
    with pytest.raises(GateFailed, match=said) as failed:
        mcd.export_all(mcd.load_model("nano"), TARGETS, "fp16", tmp_path, tower="image")
    onnx, coreml, litert = failed.value.results
    assert isinstance(onnx, NotWritten)
    assert isinstance(onnx.failure, ExportError)
    assert [one.as_dict()["written"] for one in (onnx, coreml, litert)] == [False, True, False]
    assert onnx.as_dict()["error"]["exit_code"] == 3
    assert mcd.Bundle.open(coreml.path).manifest.target == "coreml"
    assert [path.name for path in tmp_path.iterdir()] == ["nano-coreml-fp16"]


@pytest.mark.parametrize(("error", "code"), [(broken, 3), (lambda _: NotRun("nothing runs it here"), 3)])
def test_what_is_no_gate_does_not_stop_the_others_either(
    failing: Plant, tmp_path: Path, error: Callable[[ExportState], MobileClipDeployError], code: int
) -> None:
    failing(coreml=error)
    words = ("export", "--target", ",".join(TARGETS), "--precision", "fp16", "--tower", "image", "-o", tmp_path)
    found = run(*words, "--json")
    assert found.code == code
    assert [entry["written"] for entry in found.json] == [True, False, True]
    assert found.json[1]["error"]["exit_code"] == code
