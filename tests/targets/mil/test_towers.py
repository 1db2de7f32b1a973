"""Whole towers: the evaluator agrees with torch, notices planted faults, and is fast enough."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from targets.mil import towers
from targets.mil.programs import ct, save

from mobileclip_deploy.targets.mil import load

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
IDS = np.array([[98, 5, 17, 60, 3, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]], np.int32)
GATE = 1e-5
"""Relative error that a tower in float32 must keep, and a planted fault must exceed."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _exported(model: torch.nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(model, (example,)).run_decompositions({})


def _save(exported: torch.export.ExportedProgram, port: Any, path: Path, **options: Any) -> Path:
    outputs = [ct.TensorType(name="embedding", dtype=np.float32)]
    return save(exported, path, inputs=[port], outputs=outputs, **options)


def _distance(actual: np.ndarray, expected: np.ndarray) -> float:
    actual, expected = actual.astype(np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def text_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    port = ct.TensorType(name="text", shape=IDS.shape, dtype=np.int32)
    path = tmp_path_factory.mktemp("text") / "p.mlpackage"
    return _save(_exported(towers.text(pool_type="last"), torch.from_numpy(IDS)), port, path, opset=17)


@pytest.mark.once
@pytest.mark.parametrize(("opset", "pool"), [(16, "last"), (17, "first"), (17, "last"), (18, "last")])
def test_text_tower(opset: int, pool: str, tmp_path: Path) -> None:
    tower = towers.text(pool_type=pool)
    port = ct.TensorType(name="text", shape=IDS.shape, dtype=np.int32)
    program = load(_save(_exported(tower, torch.from_numpy(IDS)), port, tmp_path / "p.mlpackage", opset=opset))
    with torch.no_grad():
        expected = tower(torch.from_numpy(IDS)).numpy()
    assert _distance(program({"text": IDS})["embedding"], expected) <= GATE
    if opset == 18:
        assert "scaled_dot_product_attention" in {operation.type for operation in program.operations}


# Planted faults: changes of the written package that a converter or a hand could make.


def _operations(model: Any) -> Any:
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    return block.operations


def _constant_of(model: Any, operation: Any, parameter: str) -> Any:
    name = operation.inputs[parameter].arguments[0].name
    return next(op for op in _operations(model) if op.type == "const" and op.outputs[0].name == name)


def _find(model: Any, kind: str, index: int = 0) -> Any:
    return [op for op in _operations(model) if op.type == kind][index]


def _swap_weights(model: Any) -> None:
    shapes: dict[tuple[int, ...], Any] = {}
    for op in _operations(model):
        if op.type in ("conv", "linear"):
            constant = _constant_of(model, op, "weight")
            value = constant.attributes["val"]
            shape = tuple(d.constant.size for d in value.type.tensorType.dimensions)
            if shape in shapes and shapes[shape].blobFileValue.offset != value.blobFileValue.offset:
                first = shapes[shape].blobFileValue
                first.offset, value.blobFileValue.offset = value.blobFileValue.offset, first.offset
                return
            shapes[shape] = value
    raise AssertionError("no two weights of one shape")


def _epsilon(model: Any) -> None:
    value = _constant_of(model, _find(model, "layer_norm"), "epsilon").attributes["val"]
    value.immediateValue.tensor.floats.values[0] = 1e-3


def _tanh_gelu(model: Any) -> None:
    for op in _operations(model):
        if op.type == "gelu":
            value = _constant_of(model, op, "mode").attributes["val"]
            value.immediateValue.tensor.strings.values[0] = "TANH_APPROXIMATION"


def _softmax_axis(model: Any) -> None:
    _constant_of(model, _find(model, "softmax"), "axis").attributes["val"].immediateValue.tensor.ints.values[0] = -2


def _another_token(model: Any) -> None:
    """The last token is cut out of [1, 16, 48], from -1 on in its second dimension."""
    begin = _constant_of(model, _find(model, "slice_by_index", -1), "begin").attributes["val"]
    begin.immediateValue.tensor.ints.values[1] -= 1


def _drop_mask(model: Any) -> None:
    """The causal mask is added to the scores: an add with a constant of two equal dimensions."""
    for op in _operations(model):
        if op.type == "add":
            dims = [d.constant.size for d in op.outputs[0].type.tensorType.dimensions]
            if len(dims) >= 3 and dims[-1] == dims[-2] == IDS.shape[1]:
                users = [bound for user in _operations(model) for bound in user.inputs.values()]
                for argument in (one for bound in users for one in bound.arguments if one.name == op.outputs[0].name):
                    argument.name = op.inputs["x"].arguments[0].name
                return
    raise AssertionError("no mask")


def _faulty(package: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    copy = Path(shutil.copytree(package, folder / "faulty.mlpackage"))
    model = ct.proto.Model_pb2.Model()
    model.ParseFromString((copy / MODEL).read_bytes())
    change(model)
    (copy / MODEL).write_bytes(model.SerializeToString())
    return copy


TEXT_FAULTS = {
    "two weights swapped": _swap_weights,
    "epsilon of a LayerNorm": _epsilon,
    "tanh for exact GELU": _tanh_gelu,
    "softmax over the other axis": _softmax_axis,
    "pooling at the wrong token": _another_token,
    "mask dropped": _drop_mask,
}


@pytest.mark.parametrize("fault", TEXT_FAULTS)
def test_a_fault_in_a_text_tower_shows(fault: str, text_package: Path, tmp_path: Path) -> None:
    expected = load(text_package)({"text": IDS})["embedding"]
    program = load(_faulty(text_package, tmp_path, TEXT_FAULTS[fault]))
    assert _distance(program({"text": IDS})["embedding"], expected) > GATE


def test_a_nibble_order_mistake_shows(tmp_path: Path) -> None:
    """The two halves of each byte of a palettized weight exchanged in the weight file."""
    from targets.mil.programs import mb, quiet, types

    indices = np.random.default_rng(6).integers(0, 16, (8, 16)).astype(types.np_uint4_dtype)
    lut = np.linspace(-1, 1, 16, dtype=np.float16).reshape(1, 1, 16, 1)
    with quiet():

        @mb.program(input_specs=[mb.TensorSpec(shape=(1, 16))], opset_version=ct.target.iOS18)
        def prog(x: Any) -> Any:
            weight = mb.constexpr_lut_to_dense(indices=indices, lut=lut.astype(np.float32))
            return mb.linear(x=x, weight=weight, name="y")

    package = save(prog, tmp_path / "p.mlpackage", 18)
    x = np.random.default_rng(7).normal(size=(1, 16))
    before = load(package)({"x": x})["y"]
    np.testing.assert_allclose(before, x @ lut.reshape(-1)[indices.astype(int)].T, rtol=1e-3, atol=1e-3)
    file = package / "Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(file.read_bytes())
    for offset in range(64, len(data) - 63, 64):
        sentinel, code, size, start = struct.unpack_from("<IIQQ", data, offset)
        if sentinel == 0xDEADBEEF and code == 11:
            for position in range(start, start + size):
                data[position] = (data[position] >> 4) | ((data[position] & 15) << 4)
    file.write_bytes(data)
    assert _distance(load(package)({"x": x})["y"], before) > 1e-2
