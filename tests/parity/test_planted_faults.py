"""Verification finds what is wrong with a bundle: every fault here is planted, and seen by some step."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exports import Exports, rehash
from safetensors import safe_open
from safetensors.numpy import save_file

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import ImageTower
from mobileclip_deploy.errors import GateFailed, InvalidInput
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.parity import Gates, ParityReport, compare
from mobileclip_deploy.parity.gates import passes
from mobileclip_deploy.parity.reference import Reference


def failed(report: ParityReport) -> set[tuple[str, str]]:
    assert not report.passed
    return {(check.tower, check.step) for check in report.failed}


def edit_graph(path: Path, change: Callable[[onnx.GraphProto], object]) -> None:
    """Change an ONNX file and let the manifest agree with it."""
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    rehash(path.parents[1])


def scale_a_weight(factor: float) -> Callable[[onnx.GraphProto], None]:
    def change(graph: onnx.GraphProto) -> None:
        largest = max(graph.initializer, key=lambda item: item.ByteSize())
        value = onnx.numpy_helper.to_array(largest)
        largest.CopyFrom(onnx.numpy_helper.from_array((value * factor).astype(value.dtype), largest.name))

    return change


def test_a_sound_bundle_passes_every_step(exports: Exports) -> None:
    report = mcd.verify(exports.bundle("onnx", "fp16"), checkpoint=exports.checkpoint)
    steps = {"structure", "folded", "tower", "twin", "golden", "shipped", "weights", "graph", "reproduced", "contents"}
    both = {("both", "files"), ("both", "settings"), ("both", "companions"), ("both", "measured")}
    assert {(c.tower, c.step) for c in report.checks} == both | {(t, s) for t in ("image", "text") for s in steps} | {
        ("text", "padding")
    }
    assert report.passed


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_that_are_nan_fail(exports: Exports, tmp_path: Path, precision: str) -> None:
    path = exports.copy("onnx", precision, tmp_path)
    name = "vision_model.onnx" if precision == "fp32" else "vision_model_fp16.onnx"
    edit_graph(path / "onnx" / name, scale_a_weight(float("nan")))
    assert failed(mcd.verify(path)) == {("image", "shipped")}


def test_artifacts_swapped_between_towers_fail_structure_and_values(exports: Exports, tmp_path: Path) -> None:
    path = exports.copy("onnx", "fp32", tmp_path)
    image, text = path / "onnx" / "vision_model.onnx", path / "onnx" / "text_model.onnx"
    image.rename(path / "x")
    text.rename(image)
    (path / "x").rename(text)
    rehash(path)
    every = {(tower, step) for tower in ("image", "text") for step in ("structure", "shipped")}
    assert failed(mcd.verify(path)) == every | {("text", "padding")}


def test_another_name_of_an_input_fails_structure(exports: Exports, tmp_path: Path) -> None:
    path = exports.copy("onnx", "fp32", tmp_path)

    def rename(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            node.input[:] = ["pixels" if name == "pixel_values" else name for name in node.input]
        graph.input[0].name = "pixels"

    edit_graph(path / "onnx" / "vision_model.onnx", rename)
    found = failed(mcd.verify(path, checkpoint=exports.checkpoint))
    assert found == {("image", "structure"), ("image", "reproduced")}


def test_a_core_ml_image_input_turned_to_bgr_fails_structure_and_values(exports: Exports, tmp_path: Path) -> None:
    from coremltools.proto import FeatureTypes_pb2, Model_pb2

    path = exports.copy("coreml", "fp16", tmp_path)
    file = path / "nano_image.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    model = Model_pb2.Model.FromString(file.read_bytes())
    model.description.input[0].type.imageType.colorSpace = FeatureTypes_pb2.ImageFeatureType.ColorSpace.BGR
    file.write_bytes(model.SerializeToString(deterministic=True))
    rehash(path)
    found = failed(mcd.verify(path))
    assert ("image", "structure") in found
    assert {tower for tower, _ in found} == {"image"}


def test_another_checkpoint_than_the_exported_one_fails(exports: Exports, tmp_path: Path) -> None:
    """A bundle of weights that someone moved a little, which says that it is of the right ones."""
    model = mcd.load_model(None, exports.checkpoint)
    generator = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        if value.ndim > 1 and name != "logit_scale":
            value.add_(1e-3 * value.std() * torch.randn(value.shape, generator=generator))
    bundle = mcd.export(model, "onnx", "fp32", tmp_path, tower="text", verify=False)
    shutil.copy(exports.bundle("onnx", "fp32").golden, bundle.path)
    report = mcd.verify(bundle, checkpoint=exports.checkpoint, thorough=False)
    assert failed(report) >= {("text", "twin"), ("text", "shipped")}


@pytest.mark.slow
def test_mean_and_std_forgotten_in_the_graph_fail_the_export(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mcd.load_model(None, exports.checkpoint)
    preprocess = model.variant.preprocess.model_copy(update={"mean": (0.5, 0.4, 0.3), "std": (0.3, 0.3, 0.2)})
    monkeypatch.setattr(model, "variant", model.variant.model_copy(update={"preprocess": preprocess}))
    monkeypatch.setattr(ImageTower, "forward", lambda self, pixels: self.encoder(pixels))
    with pytest.raises(GateFailed, match=r"image tower .*image twin .*image shipped"):
        mcd.export(model, "onnx", "fp32", tmp_path, tower="image")
    assert list(tmp_path.iterdir()) == []


def outside(exports: Exports, tower: TowerName, change: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether inputs prepared in another way take the float16 artifact out of its gate."""
    bundle = exports.bundle("onnx", "fp16")
    golden, runner = Reference.read(bundle.golden), mcd.load_runner(bundle, tower)
    assert passes(compare(golden.of(tower), runner(golden.inputs.of(tower))), Gates().shipped("fp16"))
    return not passes(compare(golden.of(tower), runner(change(golden.inputs.of(tower)))), Gates().shipped("fp16"))


def test_the_golden_file_tells_blue_from_red_and_ids_without_a_start_and_bytes_are_not_even_taken(
    exports: Exports,
) -> None:
    assert outside(exports, "image", lambda pixels: np.ascontiguousarray(pixels[:, ::-1]))
    assert outside(exports, "text", lambda ids: np.where(ids == 49406, 0, ids))
    assert not outside(exports, "text", lambda ids: np.where(ids == 0, 49407, ids))  # the graph pads ids itself
    with pytest.raises(InvalidInput, match="0"):
        outside(exports, "image", lambda pixels: pixels * 255)


def edit_golden(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118 (not a mapping)
        metadata = file.metadata()
    change(tensors)
    save_file(tensors, path, metadata)


def test_golden_embeddings_of_other_inputs_fail_without_the_checkpoint_too(exports: Exports, tmp_path: Path) -> None:
    path = exports.copy("onnx", "fp16", tmp_path)
    edit_golden(path / "golden.safetensors", lambda tensors: tensors.update(pixels=tensors["pixels"][::-1].copy()))
    assert failed(mcd.verify(path)) == {("image", "shipped")}


def test_golden_inputs_of_another_size_fail(exports: Exports, tmp_path: Path) -> None:
    path = exports.copy("onnx", "fp16", tmp_path)
    edit_golden(path / "golden.safetensors", lambda tensors: tensors.update(ids=tensors["ids"][:, :50].copy()))
    assert failed(mcd.verify(path)) == {("text", "shipped")}


def test_golden_ids_that_no_vocabulary_has_are_refused(exports: Exports, tmp_path: Path) -> None:
    path = exports.copy("onnx", "fp16", tmp_path)
    edit_golden(path / "golden.safetensors", lambda tensors: tensors["ids"].fill(2**30))
    with pytest.raises(InvalidInput, match=r"golden\.safetensors"):
        mcd.verify(path, checkpoint=exports.checkpoint)


def test_without_the_checkpoint_the_semantic_step_is_not_run_and_nothing_passes(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = mcd.verify(exports.copy("onnx", "fp16", tmp_path))
    needing = {"golden", "twin", "weights", "reproduced"}
    wanted = {("both", "settings"), ("both", "companions")} | {(t, step) for t in ("image", "text") for step in needing}
    assert {(check.tower, check.step) for check in report.not_run} == wanted
    assert all("mine.safetensors" in (check.detail or "") for check in report.not_run)
    assert (report.passed, report.failed) == (False, ())


@pytest.mark.slow
def test_images_and_prompts_of_ones_own_are_what_is_compared(exports: Exports, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(image_paths()[0], tmp_path / "photos")
    (tmp_path / "prompts.json").write_text(json.dumps(["a dog", "", "ein Hund"]), encoding="utf-8")
    report = mcd.verify(
        exports.bundle("onnx", "fp32"),
        checkpoint=exports.checkpoint,
        images=tmp_path / "photos",
        prompts=tmp_path / "prompts.json",
    )
    counts = {
        check.tower: check.deviation.inputs for check in report.checks if check.step == "shipped" and check.deviation
    }
    assert counts == {"image": 1, "text": 3}
    assert report.passed
