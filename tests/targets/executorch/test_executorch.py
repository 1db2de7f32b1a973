"""ExecuTorch bundles: names, types, delegates, values, bytes, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import refusal, run
from tiny import WORDS, known, network
from writing import job_of, small_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import NotRun, UsageError
from mobileclip_deploy.export.request import ExportRequest, choose
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.executorch.authoring import Apart, RowBands
from mobileclip_deploy.targets.executorch.backends import BACKENDS, ExecuTorchOptions, XnnpackBackend
from mobileclip_deploy.targets.executorch.opening import ExecuTorchArtifact
from mobileclip_deploy.targets.executorch.runner import RuntimeRunner

pytest.importorskip("executorch", reason="needs executorch: pip install 'mobileclip-deploy[executorch]'")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The float32 bundle of a small network for XNNPACK, beside its checkpoint."""
    folder = tmp_path_factory.mktemp("executorch")
    with known(folder) as checkpoint:
        yield mcd.export(mcd.load_model(WORDS, checkpoint), "executorch", "fp32", folder, verify=False).path


@pytest.fixture
def image(bundle: Path) -> Path:
    return bundle / f"{WORDS}_image.xnnpack.pte"


@pytest.mark.slow
def test_the_image_tower_is_one_delegate_and_leaves_nothing_outside(bundle: Path, image: Path) -> None:
    told = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["towers"]["image"]["contents"]
    assert told["delegates"] == {"XnnpackBackend": 1}
    assert told["operators_outside"] == {}
    assert sum(told["bytes"].values()) == pytest.approx(image.stat().st_size, rel=0.02)


@pytest.mark.slow
def test_no_attention_is_left_to_the_portable_kernels(bundle: Path) -> None:
    outside = set(ExecuTorchArtifact(bundle / f"{WORDS}_text.xnnpack.pte", readable=False).file.operators)
    assert not {name for name in outside if "softmax" in name or "bmm" in name or "linear" in name or "conv" in name}


@pytest.mark.slow
def test_the_thread_pool_has_the_size_that_is_asked_for(image: Path) -> None:
    from executorch.extension.pybindings import portable_lib

    for threads in (2, 1):
        runner = RuntimeRunner(ExecuTorchArtifact(image, readable=True), threads)
        assert portable_lib._threadpool_get_thread_count() == threads
        assert f"{threads} thread" in runner.engine


@pytest.mark.slow
def test_a_backend_that_the_runtime_lacks_is_not_run(image: Path, tmp_path: Path) -> None:
    data = image.read_bytes()
    assert data.count(b"XnnpackBackend") >= 1
    other = tmp_path / "other.pte"
    other.write_bytes(data.replace(b"XnnpackBackend", b"VulkanXBackend"))
    with pytest.raises(NotRun, match="needs VulkanXBackend"):
        get_target("executorch").open(other).runner()


def test_backends_that_need_an_sdk_are_named_with_what_is_missing() -> None:
    text = refusal(run("export", "--target", "executorch", "--backend", "qnn"))
    assert "AI Engine Direct" in text
    assert "xnnpack, coreml, vulkan" in text


def test_several_backends_are_several_targets() -> None:
    choices = choose(ExportRequest(("onnx,executorch",), ("fp32",), options={"backend": "xnnpack,coreml,vulkan"}))
    labels = [target.label for target, _ in choices.pairs]
    assert labels == ["onnx", "executorch", "executorch-coreml", "executorch-vulkan"]
    with pytest.raises(UsageError, match="add `target='executorch'`"):
        choose(ExportRequest(("onnx",), options={"backend": "coreml"}))


@pytest.mark.parametrize(
    ("precision", "reason"),
    [
        ("image=w8,text=w8", "IntxWeightOnlyConfig"),
        ("image=w4,text=fp32", "gives wrong results"),
        ("fp16", "GELU is not delegated"),
        ("w4p", "no precision w4p; it has fp32"),
    ],
)
def test_what_would_be_slow_or_wrong_is_refused_with_the_reason(precision: str, reason: str) -> None:
    assert reason in refusal(run("export", "--target", "executorch", "--precision", precision))


@pytest.mark.slow  # test_conformance.py has Core ML
def test_the_core_ml_delegate_is_checked_on_the_package_inside(tmp_path: Path) -> None:
    bundle = small_bundle(WORDS, "executorch-coreml", "fp16", tmp_path, tower="text")
    assert bundle.path.name == f"{WORDS}-executorch-coreml-fp16"
    path = bundle.artifact("text")
    assert path.name == f"{WORDS}_text.coreml.pte"
    shipped = [check for check in bundle.parity if check.step == "shipped"]
    assert {check.status for check in bundle.parity} == {"passed"}
    assert all(check.engine is not None and "inside the .pte; not Core ML" in check.engine for check in shipped)
    program = ExecuTorchArtifact(path, readable=False).file
    assert (program.backends, program.operators) == (("CoreMLBackend",), {})
    assert str(Path.cwd()).encode() not in program.delegates[0][1]


@pytest.mark.slow  # of a backend that the runtime lacks, above
def test_vulkan_is_written_and_reported_as_not_run(tmp_path: Path) -> None:
    with known(tmp_path) as checkpoint:
        model = mcd.load_model(WORDS, checkpoint)
        mcd.reparameterize(model)
        target, path = get_target("executorch-vulkan"), tmp_path / "text.pte"
        target.write(job_of(model, "text", "fp16"), path)
    assert "VulkanBackend" in ExecuTorchArtifact(path, readable=False).file.backends
    with pytest.raises(NotRun, match="needs VulkanBackend"):
        target.open(path).runner()


def test_each_backend_has_its_precisions() -> None:
    xnnpack = BACKENDS["xnnpack"]
    have = {
        tower: {name for name in xnnpack.precisions if (tower, name) not in xnnpack.refused}
        for tower in ("image", "text")
    }
    assert have == {"image": {"fp32", "w8a8"}, "text": {"fp32", "w8a8", "w8", "w4"}}
    assert BACKENDS["coreml"].precisions == BACKENDS["vulkan"].precisions == ("fp16", "fp32")
    assert [name for name, one in BACKENDS.items() if one.static_shapes is None] == ["xnnpack"]


def test_no_fast_depthwise_leaves_kernels_whole() -> None:
    image = make_tower(network(), "image")
    for fast in (True, False):
        job: Any = SimpleNamespace(module=image, options=ExecuTorchOptions(fast_depthwise=fast))
        written = XnnpackBackend().authored(job)
        for kind in (RowBands, Apart):
            assert any(isinstance(module, kind) for module in written.modules()) is fast
