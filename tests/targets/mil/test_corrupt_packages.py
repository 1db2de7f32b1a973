"""A corrupt or hostile package is refused in one line, before anything outside it or beyond its sizes is touched."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_files import edited_json
from targets.mil.programs import build, ct

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.targets.mil import UnsupportedOperation, load

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
X = np.ones((1, 4), np.float32)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weight = np.arange(64, dtype=np.float32).reshape(16, 4)

    def body(mb: Any, x: Any) -> Any:
        hidden = mb.relu(x=mb.linear(x=x, weight=weight, bias=np.ones(16, np.float32), name="first"), name="hidden")
        return mb.reduce_sum(x=hidden, axes=[1], name="y")

    return build(tmp_path_factory.mktemp("intact") / "p.mlpackage", {"x": ((1, 4), "float32")}, body)


@pytest.fixture
def package(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "p.mlpackage"))


def _edit(package: Path, change: Callable[[Any], None]) -> None:
    model = ct.proto.Model_pb2.Model()
    model.ParseFromString((package / MODEL).read_bytes())
    change(model)
    (package / MODEL).write_bytes(model.SerializeToString())


def _block(model: Any) -> Any:
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    return block


def _operation(model: Any, kind: str, output: str = "") -> Any:
    return next(
        op for op in _block(model).operations if op.type == kind and (not output or op.outputs[0].name == output)
    )


def _weight(model: Any) -> Any:
    return next(
        op
        for op in _block(model).operations
        if op.type == "const" and len(op.outputs[0].type.tensorType.dimensions) == 2
    )


def _refused(package: Path, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        load(package)({"x": X})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_intact_package_loads(package: Path) -> None:
    expected = np.maximum(np.arange(64).reshape(16, 4).sum(1) + 1, 0).sum()
    np.testing.assert_allclose(load(package)({"x": X})["y"], [expected])


def test_what_is_not_a_package(tmp_path: Path) -> None:
    _refused(tmp_path / "absent.mlpackage", "not a .mlpackage folder")
    (tmp_path / "file").write_bytes(b"x")
    _refused(tmp_path / "file", "not a .mlpackage folder")
    (tmp_path / "empty.mlpackage").mkdir()
    _refused(tmp_path / "empty.mlpackage", r"Manifest.json' is missing")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 3}}}']
)
def test_a_broken_manifest(text: str, package: Path) -> None:
    (package / "Manifest.json").write_text(text)
    _refused(package, "Manifest.json")


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "com.apple.CoreML/../../../secret", "", "a\0b", "com.apple.CoreML"]
)
def test_a_manifest_that_points_elsewhere(path: str, package: Path) -> None:
    (package.parent / "secret").write_bytes(b"not yours")
    with edited_json(package / "Manifest.json") as manifest:
        manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = path
    _refused(package, "leaves the package|is missing")


@pytest.mark.parametrize(
    "name",
    [
        "@model_path/../../../secret.bin",
        "@model_path//etc/passwd",
        "/etc/passwd",
        "weights/weight.bin",
        "@model_path/weights/../../../../secret.bin",
        "@model_path/weights\\..\\..\\secret.bin",
        "@model_path/",
    ],
)
def test_a_weight_that_points_elsewhere(name: str, package: Path) -> None:
    shutil.copy(package / WEIGHTS, package.parent / "secret.bin")
    _edit(package, lambda model: setattr(_weight(model).attributes["val"].blobFileValue, "fileName", name))
    _refused(package, "leaves the package|names the file|is missing")


@pytest.mark.parametrize("at", [WEIGHTS, WEIGHTS.parent, MODEL, Path("Data")])
def test_a_symbolic_link_is_not_followed(at: Path, package: Path) -> None:
    outside = package.parent / "outside"
    shutil.move(package / at, outside)
    (package / at).symlink_to(outside)
    _refused(package, "symbolic link")


def test_a_missing_or_truncated_specification_or_weight_file(package: Path) -> None:
    data = (package / WEIGHTS).read_bytes()
    (package / WEIGHTS).write_bytes(data[:-40])
    _refused(package, "outside the file|not a record")
    (package / WEIGHTS).write_bytes(data[:32])
    _refused(package, "truncated")
    (package / WEIGHTS).unlink()
    _refused(package, "is missing")
    data = (package / MODEL).read_bytes()
    (package / MODEL).write_bytes(data[: len(data) // 2])
    _refused(package, "not a Core ML specification|not an ML program|is not defined")
    (package / MODEL).write_bytes(b"")
    _refused(package, "holds 0 bytes")
    (package / MODEL).unlink()
    _refused(package, "is missing")


@pytest.mark.parametrize("offset", [0, 32, 65, 2**20, 2**63])
def test_an_offset_that_holds_no_record(offset: int, package: Path) -> None:
    _edit(package, lambda model: setattr(_weight(model).attributes["val"].blobFileValue, "offset", offset))
    _refused(package, "not a record")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, 0, "sentinel"),
        (1, 1, "is float16 in the file, float32 in the program"),
        (1, 99, "of type 99"),
        (2, 2**62, "outside the file"),
        (2, 16, "its shape needs 256"),
        (3, 2**62, "outside the file"),
        (3, 0, "outside the file"),
    ],
)
def test_a_record_that_contradicts_the_program(field: int, value: int, message: str, package: Path) -> None:
    data = bytearray((package / WEIGHTS).read_bytes())
    record = list(struct.unpack_from("<IIQQ", data, 64))
    record[field] = value
    struct.pack_into("<IIQQ", data, 64, *record)
    (package / WEIGHTS).write_bytes(data)
    _refused(package, message)


def _set_type(model: Any, code: int) -> None:
    weight = _weight(model)
    weight.attributes["val"].type.tensorType.dataType = code
    weight.outputs[0].type.tensorType.dataType = code


def _set_shape(model: Any, sizes: tuple[int, int]) -> None:
    weight = _weight(model)
    for declared in (weight.attributes["val"].type.tensorType, weight.outputs[0].type.tensorType):
        for dimension, size in zip(declared.dimensions, sizes, strict=True):
            dimension.constant.size = size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: _set_type(m, 10), "float32 in the file, float16 in the program"),
        (lambda m: _set_type(m, 13), "element type number 13"),
        (lambda m: _set_shape(m, (16, 5)), "its shape needs 320"),
        (lambda m: _set_shape(m, (4, 16)), "do not fit"),
        (lambda m: _set_shape(m, (2**40, 2**40)), "more than the"),
        (lambda m: _set_shape(m, (2**64 - 1, 1)), "more than the"),
        (lambda m: setattr(_weight(m).outputs[0].type.tensorType, "rank", 3), "rank 3 with 2 dimensions"),
        (lambda m: setattr(_weight(m).outputs[0].type.tensorType, "dataType", 10), "is float32.*declared float16"),
    ],
    ids=["dtype", "bfloat16", "too-large", "transposed", "huge", "negative", "rank", "tag"],
)
def test_a_constant_whose_type_is_wrong(change: Callable[[Any], None], message: str, package: Path) -> None:
    _edit(package, change)
    _refused(package, message)


def _bind(kind: str, parameter: str, name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        _operation(model, kind).inputs[parameter].arguments[0].name = name

    return change


def _move_last_first(model: Any) -> None:
    operations = _block(model).operations
    operations.insert(0, operations.pop())


def _added(field: str, like: str) -> Callable[[Any], None]:
    """One more attribute or input of an operation, which is another one's."""

    def change(model: Any) -> None:
        held = getattr(_operation(model, "relu"), field)
        held["alpha"].CopyFrom(held[like])

    return change


def _output(kind: str, field: str, value: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        declared = _operation(model, kind).outputs[0].type.tensorType
        if field == "dataType":
            declared.dataType = value
        else:
            declared.dimensions[-1].constant.size = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_bind("relu", "x", "nowhere"), "'nowhere', which is not defined"),
        (_bind("relu", "x", "hidden"), "after it is used"),
        (_move_last_first, "after it is used"),
        (lambda m: _block(m).operations.append(_operation(m, "relu")), "'hidden' is defined twice"),
        (lambda m: _operation(m, "relu").inputs["x"].arguments[0].ClearField("name"), "bound to nothing"),
        (lambda m: _block(m).outputs.__setitem__(0, "nowhere"), "'nowhere', which is not defined"),
        (_output("relu", "dataType", 10), "declared float16.*yields float32"),
        (_output("relu", "size", 17), "has shape .*16.*declared .*17"),
        (_output("relu", "size", 2**40), "more than the"),
        (_output("reduce_sum", "size", 2), "has shape .* outside"),
        (_added("attributes", "name"), r"attributes \['alpha'\]"),
        (_added("inputs", "x"), "'alpha', which the evaluator does not know"),
        (lambda m: _operation(m, "linear").inputs.__delitem__("weight"), "lacks the input 'weight'"),
        (_bind("relu", "x", "hidden_weight"), "not defined"),
        (lambda m: setattr(m.mlProgram.functions["main"], "opset", "CoreML99"), "opset 'CoreML99'"),
        (lambda m: setattr(m.description.input[0], "name", "z"), "described as"),
        (lambda m: setattr(m.description.input[0].type.multiArrayType, "dataType", 131104), "int32 outside"),
        (lambda m: m.mlProgram.functions.clear(), r"functions \[\]"),
        (lambda m: m.ClearField("Type"), "not an ML program"),
    ],
)
def test_a_program_that_contradicts_itself(change: Callable[[Any], None], message: str, package: Path) -> None:
    _edit(package, change)
    _refused(package, message)


def test_unknown_ops_are_listed_with_where_they_occur(package: Path) -> None:
    def change(model: Any) -> None:
        _operation(model, "relu").type = "warp"
        _operation(model, "reduce_sum").type = "weft"

    _edit(package, change)
    with pytest.raises(UnsupportedOperation, match=r"warp \(at hidden\); weft \(at y\)") as caught:
        load(package)
    assert caught.value.operations == {"warp": ("hidden",), "weft": ("y",)}
    program = load(package, evaluate=False)
    assert program.unsupported == caught.value.operations
    assert [operation.type for operation in program.operations] == ["linear", "warp", "weft"]
    with pytest.raises(UnsupportedOperation):
        program({"x": X})
