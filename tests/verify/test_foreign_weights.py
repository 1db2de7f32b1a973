"""`verify` of other tools' files: every element of their tensors, at each way of storing them."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exports import Exports
from onnx import helper, numpy_helper

import mobileclip_deploy as mcd
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.samples import prompts
from mobileclip_deploy.targets.foreign_file import StoredConstant
from mobileclip_deploy.verify.audit.tensors import Stored
from mobileclip_deploy.verify.audit.weights import Found, _found, weight_evidence, with_weights

Values = np.ndarray[Any, Any]
TABLE, FC1, BIAS, QKV = (
    "token_embedding.weight",
    "blocks.1.fc1.weight",
    "blocks.1.fc1.bias",
    "blocks.1.attention.qkv.weight",
)
RARE = np.setdiff1d(np.arange(49408), encode(list(prompts())))
"""Rows of words that no text of `verify` has."""


def negated(values: Values) -> None:
    values[RARE[:39000]] *= -1


def exchanged(values: Values) -> None:
    values[RARE[[5000, 30000]]] = values[RARE[[30000, 5000]]]


def emptied(values: Values) -> None:
    values[RARE[7000:9000]] = 0


def one_negated(values: Values) -> None:
    values[RARE[123]] *= -1


def doubled(values: Values) -> None:
    values[RARE[20000]] = np.clip(2.0 * values[RARE[20000]], -127, 127)


def columns(values: Values) -> None:
    values[RARE[:, None], [3, 77]] = values[RARE[:, None], [77, 3]]


def element(values: Values) -> None:
    row = RARE[40000]
    values[row, np.abs(values[row]).argmax()] *= 1.01


def step(values: Values) -> None:
    values[RARE[40000], 7] += 2


def third(values: Values) -> None:
    queries = values[:96] if len(values) == 288 else values[:, :96]
    queries *= 1.003


def shifted(values: Values) -> None:
    values[17] += 0.002


EDITS = [
    (TABLE, negated),
    (TABLE, exchanged),
    (TABLE, emptied),
    (TABLE, one_negated),
    (TABLE, doubled),
    (TABLE, columns),
    (TABLE, element),
    (QKV, third),
    (BIAS, shifted),
    (TABLE, step),
]
INTEGERS = (negated, exchanged, emptied, one_negated, doubled, columns, step)
"""Edits of integers; smaller ones are less than their step."""


def found(stored: Values, is_table: bool = False, **grid: Values) -> Found | None:
    return _found(VALUES, [GAMMA], [Stored.of(0, StoredConstant("", stored, **grid))], is_table)


VALUES = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)
GAMMA = np.broadcast_to(np.linspace(0.5, 1.5, 48, dtype=np.float32), VALUES.shape)
"""Weight of the LayerNorm before the matrix VALUES."""


def test_matrices_are_found_in_another_order_of_axes_and_with_known_factors() -> None:
    halved = VALUES * GAMMA * np.float32(0.5)  # onnxsim moves GELU's half into a weight with its layer scale
    for stored in (VALUES, VALUES.T, VALUES * np.float32(0.5**0.5), VALUES * GAMMA, halved, VALUES.astype(np.float16)):
        exact = found(stored)
        assert exact is not None
        assert exact.state == "exact"
    table = found(VALUES * np.float32(0.9), is_table=True)
    assert table is not None
    assert table.state == "different"
    assert found(np.roll(VALUES, 1, axis=0)) is None
    assert found(VALUES * -np.sign(GAMMA - 1)) is None
    other = found((VALUES * np.linspace(1.01, 1.2, 48)).astype(np.float32))
    assert other is not None
    assert other.state == "different"


def test_outputs_of_a_group_are_found_in_tensors_of_their_own(exports: Exports) -> None:
    """The ONNX target writes a depthwise convolution with two outputs per group as two."""
    file = next((exports.unverified("onnx", "fp32", "both").path / "onnx").glob("vision_model*.onnx"))
    proto, model = onnx.load(file), mcd.load_model()
    arrays = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    (half, *_) = (name for name in arrays if name.endswith("stages.1.downsample.0.conv.weight_1"))

    def evidence(values: Values) -> Any:
        return weight_evidence(model, [StoredConstant(name, each) for name, each in (arrays | {half: values}).items()])

    right = evidence(arrays[half])["image"]
    assert (right.missing, right.different) == ({}, ())
    wrong = arrays[half].copy()
    wrong[3] *= np.float32(1.01)
    assert evidence(wrong)["image"].different == ("stages.1.downsample.0.conv.weight, 2 of 2",)


def test_integers_are_the_nearest_steps_or_rounded_otherwise() -> None:
    scale = np.abs(VALUES).max(axis=1, keepdims=True) / np.float32(127)
    nearest = np.rint(VALUES / scale).astype(np.int8)
    uneven = np.random.default_rng(1).random(VALUES.shape) < 0.3
    either = np.where(uneven, np.floor(VALUES / scale), nearest).astype(np.int8)  # as AdaRound
    clipped = np.clip(np.rint(VALUES / (0.8 * scale)), -127, 127).astype(np.int8)
    row = nearest.copy()
    row[5] += 1
    for stored, steps, state in (
        (nearest, scale, "exact"),
        (clipped, 0.8 * scale, "exact"),
        (either, scale, "otherwise"),
        (row, scale, "different"),
    ):
        each = found(stored, scale=steps)
        assert each is not None
        assert each.state == state
    halves = found((nearest * scale).astype(np.float16))
    assert halves is not None
    assert halves.state == "exact"
    levels = np.quantile(VALUES, np.linspace(0, 1, 16)).astype(np.float32)  # as 4 bits of a palette
    table = found(levels[np.abs(VALUES[..., None] - levels).argmin(axis=-1)])
    assert table is not None
    assert table.state == "exact"
    unknown = found(nearest)
    assert unknown is not None
    assert unknown.state == "unknown"


def test_the_network_gets_weights_that_a_file_has_in_thirds() -> None:
    model, name = mcd.load_model(), "blocks.1.attention.qkv.weight"
    packed = dict(model.text.named_parameters())[name].detach().numpy()
    constants = []
    for third in np.split(packed, 3):
        scale = np.abs(third).max(axis=1, keepdims=True) / np.float32(127)
        constants.append(StoredConstant("", np.rint(third / scale).astype(np.int8), scale))
    found = weight_evidence(model, constants)
    assert [each for each in found["text"].matches if each.startswith(name)] == [
        f"{name}, {third}" for third in ("queries", "keys", "values")
    ]
    changed = with_weights(model, found, lambda each: each.stored.values)
    weight = dict(changed.text.named_parameters())[name].detach().numpy()
    np.testing.assert_array_equal(weight, np.concatenate([each.values * each.scale for each in constants]))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """nano's text tower as the usual tools store it."""
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.transformers.float16 import convert_float_to_float16

    folder, model = tmp_path_factory.mktemp("files"), mcd.load_model()
    names = ("fp32", "fp16", "dynamic", "qdq")
    paths = {name: folder / f"{name}.onnx" for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.from_numpy(encode(["a photo of a dog"]))
        torch.onnx.export(copy.deepcopy(model.text), (example,), paths["fp32"], dynamo=False)
    onnx.save(convert_float_to_float16(onnx.load(paths["fp32"]), keep_io_types=True), paths["fp16"])
    quantize_dynamic(paths["fp32"], paths["dynamic"])
    onnx.save(weights_only(onnx.load(paths["fp32"])), paths["qdq"])
    return paths


def weights_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Matrices as int8, with a scale for each row, and DequantizeLinear before their products."""
    graph = model.graph
    for tensor in [tensor for tensor in graph.initializer if len(tensor.dims) == 2 and tensor.data_type == 1]:
        values, name = numpy_helper.to_array(tensor), tensor.name
        scale = np.abs(values).max(axis=1) / np.float32(127)
        tensor.CopyFrom(numpy_helper.from_array(np.rint(values / scale[:, None]).astype(np.int8), f"{name}_integers"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        graph.initializer.append(numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}_zero"))
        inputs = [f"{name}_{part}" for part in ("integers", "scale", "zero")]
        graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=0))
    return model


def edited(path: Path, name: str, edit: Callable[[Values], None], out: Path) -> Path:
    """Copies a file with a change of one tensor of the checkpoint, found by its shape or its name."""
    model, weights = onnx.load(path), dict(mcd.load_model().text.named_parameters())
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    fitting = [each for each in stored.values() if sorted(each.dims) == sorted(weights[name].shape)]
    tensor = next((each for each in fitting if name in each.name), fitting[0])
    values = numpy_helper.to_array(tensor)
    point = stored.get(tensor.name.replace("_quantized", "_zero_point"))
    zero = 0 if point is None or point is tensor else numpy_helper.to_array(point)
    changed = values.astype(np.int32) - zero if values.dtype == np.uint8 else values.copy()
    edit(changed)
    changed = np.clip(changed + zero, 0, 255) if values.dtype == np.uint8 else changed
    tensor.CopyFrom(numpy_helper.from_array(changed.astype(values.dtype), tensor.name))
    onnx.save(model, out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp32", "fp16", "dynamic", "qdq"])
def test_a_right_file_is_the_same(files: dict[str, Path], kind: str) -> None:
    report = mcd.verify_file(files[kind])
    assert (report.verdict, report.towers[0].weights.different) == ("same", ()), report.sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "edit"),
    [
        (kind, name, edit)
        for kind in ("fp32", "fp16", "dynamic", "qdq")
        for name, edit in EDITS
        if (edit in INTEGERS if kind in ("dynamic", "qdq") else edit is not step)
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_edited_tensor_is_named(
    files: dict[str, Path], tmp_path: Path, kind: str, name: str, edit: Callable[[Values], None]
) -> None:
    report = mcd.verify_file(edited(files[kind], name, edit, tmp_path / "edited.onnx"))
    assert report.verdict == "differs"
    assert report.towers[0].weights.different == (name,)
