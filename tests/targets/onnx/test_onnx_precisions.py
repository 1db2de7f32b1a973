"""ONNX bundles of quantized towers: what is in the files, how they run, how large they are."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from command_line import run
from exports import Exports
from tiny import PIECES
from writing import job_of, small_bundle

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import ExportError, UsageError
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Gates, compare
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.onnx.quantization import Quantizing, quantize

SUFFIXES = {"w8": "_int8", "w8a8": "_quantized", "w4": "_q4"}
precisions = pytest.mark.parametrize("precision", SUFFIXES)
both_towers = pytest.mark.parametrize("tower", ["image", "text"])


def artifact(exports: Exports, precision: str, tower: TowerName) -> Path:
    return exports.unverified("onnx", precision, "both").artifact(tower)


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def as_run(path: Path, folder: Path) -> Counter[str]:
    """The operators of the graph that ONNX Runtime makes of a file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return operators(folder / "optimized.onnx")


@precisions
def test_the_files_are_named_as_the_client_asks_for_them(exports: Exports, precision: str) -> None:
    bundle = exports.unverified("onnx", precision, "both")
    files = {tower: entry.file for tower, entry in bundle.manifest.towers.items()}
    suffix = SUFFIXES[precision]
    assert files == {"image": f"onnx/vision_model{suffix}.onnx", "text": f"onnx/text_model{suffix}.onnx"}


@precisions
@both_towers
def test_files_are_valid_take_any_batch_and_never_hold_a_dynamically_quantized_convolution(
    exports: Exports, precision: str, tower: TowerName
) -> None:
    path = artifact(exports, precision, tower)
    onnx.checker.check_model(str(path))
    assert "ConvInteger" not in operators(path)
    runner, shape = (
        mcd.load_runner(exports.unverified("onnx", precision, "both"), tower),
        (3, 64, 64) if tower == "image" else (77,),
    )
    assert runner(np.zeros((5, *shape), np.float32 if tower == "image" else np.int64)).shape == (5, 128)


@pytest.mark.slow
def test_the_static_int8_image_tower_loses_less_than_a_point_of_top_1(exports: Exports) -> None:
    runner = mcd.load_runner(exports.unverified("onnx", "w8a8", "both"), "image")
    embedder = replace(model_embedder(mcd.load_model()), images=runner)
    found = measure(embedder, builtin_dataset(), ("classification",)).result
    published = json.loads((Path(__file__).parents[3] / "models" / "nano" / "figures.json").read_text())
    assert found.figures["top1"].value >= published["top1"] - 1


def test_w8_restores_its_weights_once_and_runs_as_float(exports: Exports, tmp_path: Path) -> None:
    for tower in ("image", "text"):
        plain = as_run(artifact(exports, "fp32", tower), tmp_path)
        found = as_run(artifact(exports, "w8", tower), tmp_path)
        looked_up = {"Gather": 1, "Cast": 1, "Mul": 1} if tower == "text" else {}
        assert found - plain == Counter(looked_up)


def test_convolutions_and_products_of_a_w8a8_image_tower_run_in_int8(exports: Exports, tmp_path: Path) -> None:
    path = artifact(exports, "w8a8", "image")
    integers = sum(node.op_type == "DequantizeLinear" and len(node.attribute) for node in onnx.load(path).graph.node)
    found = as_run(path, tmp_path)
    assert found["QLinearConv"] == 25
    assert found["QLinearConv"] + found["QLinearMatMul"] + found["QGemm"] + found["MatMulIntegerToFloat"] == 28
    assert integers == 53


def test_grouped_convolutions_of_a_w8a8_image_tower_run_in_float_with_weights_that_were_int8(exports: Exports) -> None:
    nodes = list(onnx.load(artifact(exports, "w8a8", "image")).graph.node)
    made_by = {output: node.op_type for node in nodes for output in node.output}
    grouped, others = [], []
    for node in nodes:
        if node.op_type == "Conv":
            groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
            (grouped if groups > 1 else others).append(made_by.get(node.input[1]))
    # A weight of up to 2,048 numbers is float32 in the file, too. Each part of those that double channels is cut out.
    assert Counter(grouped) == {"Mul": 8, "Slice": 8, None: 9}
    assert Counter(others) == {"DequantizeLinear": 25, None: 2}


def test_products_of_a_w8a8_text_tower_run_in_int8_convolutions_of_one_pixel_among_them(
    exports: Exports, tmp_path: Path
) -> None:
    before, after = (operators(artifact(exports, name, "text")) for name in ("fp32", "w8a8"))
    assert (before["Conv"], after["Conv"]) == (8, 4)  # those along the text stay
    assert after["MatMulInteger"] == 2 * 4 + 4 + 1
    found = as_run(artifact(exports, "w8a8", "text"), tmp_path)
    assert found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"] == after["MatMulInteger"]
    # Between two products nothing is transposed that was not before.
    assert after["Transpose"] <= before["Transpose"] + 4


def test_w4_holds_products_and_table_in_four_bits_and_convolutions_and_projection_in_eight(exports: Exports) -> None:
    text, image = (operators(artifact(exports, "w4", tower)) for tower in ("text", "image"))
    assert (text["Floor"], text["MatMulNBits"], text["Gemm"]) == (1, 12, 1)
    assert (image["MatMulNBits"], image["Conv"], image["Gemm"]) == (2, 52, 1)  # four of them are two: see `doubling`


@pytest.mark.slow  # of nano's layers none is a Gemm with a bias that is stored in four bits
def test_a_bias_of_a_layer_of_one_vector_stands_behind_its_product_of_four_bits(tmp_path: Path) -> None:
    """The layers behind a pooling take [N, C] and are Gemms, whose bias is an operand."""
    bundle = small_bundle(PIECES, "onnx", "w4", tmp_path, tower="image", allow_failing=True)
    assert {check.step: check.status for check in bundle.parity}["graph"] == "passed"
    assert operators(bundle.artifact("image"))["Gemm"] == 1  # the layer with as many outputs as inputs stays


def test_inspect_tells_operators_and_bytes_by_type(exports: Exports) -> None:
    path = artifact(exports, "w4", "text")
    told = run("inspect", path, "--json").json
    assert told["by_type"]["MatMulNBits"] == 12
    assert told["weight_bytes"]["uint8"] >= 49408 * 96 // 2
    assert sum(told["weight_bytes"].values()) < told["bytes"]
    contents = exports.unverified("onnx", "w4", "both").manifest.towers["text"].contents
    assert contents["weight_bytes"] == told["weight_bytes"]


def test_static_int8_without_calibration_inputs_is_refused(exports: Exports) -> None:
    model = mcd.load_model()
    fold(model)
    job = job_of(model, "image", "fp32")
    with pytest.raises(ExportError, match="needs calibration inputs"):
        quantize(ir.load(artifact(exports, "fp32", "image")), replace(job, precision="w8a8"), Quantizing())


@pytest.mark.slow
def test_a_mix_stores_the_named_layers_at_4_bits_and_the_others_at_8(exports: Exports, tmp_path: Path) -> None:
    model = mcd.load_model()
    fold(model)
    onnx_target, text = get_target("onnx"), make_tower(model, "text")
    table, product = "encoder.token_embedding.weight", "encoder.blocks.1.fc1.weight"
    assert {table, product} < dict(text.named_parameters()).keys()
    with pytest.raises(UsageError, match="no precision mixed"):
        onnx_target.require({"text": "mixed"})
    four_bit = frozenset({table, product})
    onnx_target.require({"text": "mixed"}, mixed=True)
    path = tmp_path / "mixed.onnx"
    onnx_target.write(job_of(model, "text", "mixed", four_bit=four_bit), path)
    found = operators(path)
    assert (found["Floor"], found["MatMulNBits"]) == (1, 1)
    only = tmp_path / "product.onnx"
    four_bit = frozenset({product})
    onnx_target.write(job_of(model, "text", "mixed", four_bit=four_bit), only)
    assert (operators(only)["Floor"], operators(only)["MatMulNBits"]) == (0, 1)
    golden = Reference.read(exports.unverified("onnx", "w8", "both").golden)
    answers = compare(golden.of("text"), onnx_target.open(only).runner()(golden.inputs.ids))
    assert answers.cosine >= Gates().shipped("mixed")[1]
