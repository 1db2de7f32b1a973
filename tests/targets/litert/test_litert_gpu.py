"""LiteRT's GPU compiler on Mesa's software Vulkan: what it takes, what it leaves, and what becomes of a failure."""

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from conversions import Store
from litert_files import Files, require_litert
from programs import missing
from tiny import ROTARY_WORDS
from torch import nn
from writing import small_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import InvalidInput, NotRun, UsageError
from mobileclip_deploy.network.model.architecture.mobileone import SqueezeExcite
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.artifact import Compiled, Extreme, Left
from mobileclip_deploy.targets.litert import gpu
from mobileclip_deploy.targets.litert.editing import LiteRTEditor
from mobileclip_deploy.targets.litert.gpu import extremes
from mobileclip_deploy.targets.litert.opening import LiteRTArtifact
from mobileclip_deploy.verify.checks.place import check_place, require_place

require_litert()


@pytest.fixture(scope="module")
def files(store: Store) -> Files:
    return Files(store.folder / "litert")


@pytest.fixture(scope="module")
def vulkan() -> None:
    try:
        gpu.software_vulkan()
    except NotRun as error:
        missing(str(error), here=sys.platform == "linux")


def ids() -> np.ndarray:
    return np.array([[90, 5, 6, 7, 91, 0, 0, 0]])


@pytest.mark.slow
@pytest.mark.usefixtures("vulkan")
def test_a_tower_pooled_by_attention_runs_whole_on_the_gpu(tmp_path: Path) -> None:
    """Its query is a constant, and a product of matrices with one in front is none that the GPU has."""
    bundle = small_bundle(ROTARY_WORDS, "litert", "fp32", tmp_path, tower="image")
    assert {check.status for check in bundle.parity} == {"passed"}
    (report,) = mcd.lint(bundle.path)
    assert {operation.status for operation in report.operations} == {"ready"}
    assert any(operation.type == "BATCH_MATMUL" for operation in report.operations)


@pytest.mark.slow  # what it cannot take is named, below
@pytest.mark.usefixtures("vulkan")
@pytest.mark.parametrize("precision", ["fp16", "w8"])
def test_the_text_tower_runs_whole_on_the_gpu_and_answers_in_float16(files: Files, precision: str) -> None:
    """Products keep the rank of what is around them, and of a table in float16 the rows are cast."""
    path = files.path("text", precision)
    found = get_target("litert").open(path).compiled("gpu", ids())
    assert (found.left, found.refusal, found.silence) == ((), None, None)
    assert found.operations == len(LiteRTArtifact(path).model.operators)
    assert found.engine.startswith("LiteRT 2.3")
    assert "WebGPU on llvmpipe" in found.engine
    assert found.answers is not None
    assert 1e-6 < compare(get_target("litert").open(path).runner()(ids()), found.answers).relative < 0.02


@pytest.mark.usefixtures("vulkan")
def test_what_the_gpu_has_no_kernel_for_is_named_with_its_layer(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "clamped.tflite"
    clamped = LiteRTEditor(files.path("text", "w8").read_bytes())
    (minimum,) = [one for one in clamped.graph.operators if clamped.is_type(one, "MINIMUM")]
    minimum.opcodeIndex = clamped._code(clamped.schema.BuiltinOperator.RELU_0_TO_1, 1)
    minimum.inputs, minimum.builtinOptionsType, minimum.builtinOptions = minimum.inputs[:1], 0, None
    path.write_bytes(clamped.packed())
    found = get_target("litert").open(path).compiled("gpu")
    assert [(one.type, one.name.split(".")[0]) for one in found.left] == [("RELU_0_TO_1", "tower")]
    assert (found.refusal, found.answers) == (None, None)
    (report,) = mcd.lint(path, "gpu")
    assert [op.type for op in report.operations if op.status == "leaves"] == ["RELU_0_TO_1"]
    assert [rule.name for rule in report.rules] == ["unsupported"]
    assert report.shares["ready"].operations == found.operations - 1


@pytest.mark.usefixtures("vulkan")
def test_a_driver_that_dies_is_a_finding(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "PROCESS", "gpu_that_dies")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    found = get_target("litert").open(files.path("text", "w4")).compiled("gpu", ids())
    assert found.refusal == "the compiler died (SIGSEGV)"
    assert found.silence == "it was not compiled"
    (report,) = mcd.lint(files.path("text", "w4"), "gpu")
    assert report.shares["leaves"].of_operations == 1
    assert [finding.detail for finding in report.package_findings] == ["the compiler died (SIGSEGV)"]


def test_without_a_software_vulkan_the_package_is_named(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "FOLDERS", ())
    with pytest.raises(NotRun, match="apt install mesa-vulkan-drivers") as raised:
        get_target("litert").open(files.path("text", "w4")).compiled("gpu")
    assert raised.value.exit_code == 3


def test_a_damaged_file_never_meets_a_driver(tmp_path: Path) -> None:
    (tmp_path / "cut.tflite").write_bytes(bytes(99))
    with mock.patch.object(gpu, "_run") as run, pytest.raises(InvalidInput, match="not a usable"):
        get_target("litert").open(tmp_path / "cut.tflite").compiled("gpu")
    assert run.call_count == 0


def test_places_are_refused_that_a_format_is_not_compiled_for(files: Files) -> None:
    with pytest.raises(UsageError, match=r"`place` 'gpu' is for bundles of .*LiteRT \(gpu\).*; leave it out for ONNX"):
        require_place(get_target("onnx"), "gpu")
    with pytest.raises(UsageError, match="does not run on a Neural Engine; it is linted for `device='gpu'`"):
        mcd.lint(files.path("text", "w4"), "a16")
    with pytest.raises(UsageError, match="is not compiled for the npu here; it is linted for `device='gpu'`"):
        mcd.lint(files.path("text", "w4"), "npu")
    with pytest.raises(UsageError, match="or an ONNX model with `target='qnn'`"):
        mcd.lint(files.path("text", "w4"), target="qnn")


@pytest.mark.once
@pytest.mark.parametrize("precision", ["w4", "w8", "w8a8"])
def test_products_keep_three_dimensions(files: Files, precision: str) -> None:
    model = LiteRTArtifact(files.path("text", precision)).model
    shapes = [model.tensors[one.outputs[0]].shape for one in model.operators if one.type == "FULLY_CONNECTED"]
    assert len(shapes) >= 4
    assert {shape[:-1] for shape in shapes} <= {(1, 8), (1,)}


def checked(outcome: Compiled | NotRun) -> list[tuple[str, str, str | None]]:
    """Steps, statuses and details of what the check makes of a compiler's outcome; answers should be ones."""
    tower = mock.MagicMock(inputs=np.repeat(ids(), 6, axis=0), expected=np.ones((6, 4), np.float32), precision="fp32")
    tower.name, tower.subject = "text", mock.MagicMock(place="gpu", gates=Gates())
    tower.subject.head.names = ()
    compiled = tower.artifact.compiled
    compiled.side_effect = [outcome]
    found = list(check_place(tower))
    (call,) = compiled.call_args_list
    assert (call.args[0], len(call.args[1])) == ("gpu", 4)
    return [(check.step, check.status, check.detail) for check in found]


def test_the_check_fails_for_what_stays_on_the_cpu_and_for_answers_that_are_not_the_checkpoints() -> None:
    ones = np.ones((2, 4), np.float32)
    assert checked(Compiled("E", 9, answers=ones)) == [("gpu", "passed", None), ("gpu answers", "passed", None)]
    left = tuple(Left("CAST", f"tower.{number}", "no kernel") for number in range(4))
    told = "4 CAST (no kernel): tower.0, tower.1, tower.2, ..."
    assert checked(Compiled("E", 9, left, answers=ones * np.nan)) == [
        ("gpu", "failed", told),
        ("gpu answers", "failed", None),
    ]
    died = Compiled("E", 9, refusal="the compiler died (SIGSEGV)", silence="it was not compiled")
    assert checked(died) == [
        ("gpu", "failed", "the compiler died (SIGSEGV)"),
        ("gpu answers", "not run", "it was not compiled"),
    ]
    assert {status for _, status, _ in checked(NotRun("no driver"))} == {"not run"}


def test_a_mean_that_adds_up_more_than_float16_holds_fails() -> None:
    ones, fits = np.ones((2, 4), np.float32), Extreme(9.0, "tower.stem")
    found = Compiled("E", 9, answers=ones, largest=fits, largest_sum=Extreme(65504.0, "tower.se"))
    assert checked(found)[1] == ("gpu range", "passed", None)
    found = Compiled("E", 9, answers=ones, largest=fits, largest_sum=Extreme(65505.0, "tower.se"))
    assert checked(found)[1] == ("gpu range", "failed", "largest_sum in tower.se")


@pytest.mark.slow
def test_sums_behind_means_are_those_of_torch(files: Files) -> None:
    """Those of squeeze-and-excite here: the maps before the final mean are smaller."""
    pixels = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    sums: list[float] = []

    def adds_up(module: nn.Module, given: tuple[torch.Tensor], result: torch.Tensor) -> None:
        sums.append(float(given[0].abs().sum(dim=(2, 3)).max()))

    tower = make_tower(files.model, "image")
    hooks = [one.register_forward_hook(adds_up) for one in tower.modules() if isinstance(one, SqueezeExcite)]
    with torch.no_grad():
        tower(torch.from_numpy(pixels))
    for hook in hooks:
        hook.remove()  # a conversion would meet them
    largest, largest_sum = extremes(LiteRTArtifact(files.path("image", "w8")), pixels)
    assert len(hooks) == len(sums) > 1
    assert largest_sum.value == pytest.approx(max(sums), rel=1e-3)
    assert largest_sum.name.endswith(".se")
    assert largest.value == pytest.approx(float(pixels.max()), rel=1e-6)  # nothing in this network is above 1
