"""Faults in MLX files: each is refused when the file is read or loaded, or seen beside the graph of a conversion."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from faults.edits import said_of
from mlx_files import changed, network, numbers, packed, require_mlx, setting, step, write
from tiny import inputs

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets.mlx.function_file import MlxFunction, MlxOperation, Value, read_function
from mobileclip_deploy.targets.mlx.opening import MlxArtifact

require_mlx()
pytestmark = pytest.mark.slow  # test_conformance.py plants a wrong number in `make test`

Edit = Callable[[MlxFunction], MlxFunction]
PRODUCT = "QuantizedMatmul"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[TowerName, Path]:
    """Both towers at w4, with products of 4 and of 8 bits, and convolutions in float16."""
    folder, model = tmp_path_factory.mktemp("mlx"), network()
    towers: tuple[TowerName, ...] = ("image", "text")
    return {tower: write(model, tower, folder, "w4")["w4"] for tower in towers}


def one_more(values: npt.NDArray[Any]) -> None:
    values.reshape(-1)[0] += 1


def times(factor: float) -> Callable[[npt.NDArray[Any]], None]:
    def change(values: npt.NDArray[Any]) -> None:
        values.reshape(-1)[:1] *= np.asarray(factor, values.dtype)

    return change


def rows_swapped(values: npt.NDArray[Any]) -> None:
    values[[40, 41]] = values[[41, 40]]


def operation(name: str, edit: Callable[[MlxOperation], MlxOperation], number: int = 0) -> Edit:
    def change(function: MlxFunction) -> MlxFunction:
        place = step(function, name, number)
        found = function.steps[place]
        return changed(function, place, edit(found))

    return change


def said(name: str, **other: Any) -> Edit:
    return operation(name, lambda one: replace(one, result=replace(one.result, **other)))


def called(name: str, other: str, *settings: Any) -> Edit:
    return operation(name, lambda one: replace(one, name=other, settings=settings))


def turned(name: str) -> Edit:
    return operation(name, lambda one: replace(one, inputs=one.inputs[::-1]))


def single(old: float, new: float) -> Edit:
    def change(function: MlxFunction) -> MlxFunction:
        place = next(
            at
            for at, one in enumerate(function.steps)
            if isinstance(one, Value) and one.numbers.size == 1 and np.isclose(one.numbers, old).all()
        )
        found = function.steps[place]
        return changed(function, place, Value(np.full_like(found.numbers, new)))

    return change


def strides(function: MlxFunction) -> MlxFunction:
    """A convolution with its padding below and to the right moved above and to the left."""
    return setting("Convolution", 1, (2, 2))(setting("Convolution", 2, (0, 0))(function))


def ahead_of_itself(function: MlxFunction) -> MlxFunction:
    place = step(function, "Erf")
    return operation("Erf", lambda one: replace(one, inputs=(place + len(function.inputs) + 1,)))(function)


SEEN: dict[str, tuple[TowerName, Edit]] = {
    "an integer of a product": ("image", numbers(PRODUCT, 1, one_more)),
    "a scale of a product": ("image", numbers(PRODUCT, 2, times(1.5))),
    "the other sign of a scale": ("text", numbers(PRODUCT, 2, times(-1))),
    "a convolution's weight": ("image", numbers("Convolution", 1, times(1.5))),
    "a depthwise convolution's weight": ("image", numbers("Convolution", 1, times(1.5), 2)),
    "two words, each in the other's place": ("text", numbers("Gather", 0, rows_swapped)),
    "a scale of words": ("text", numbers("Gather", 0, times(1.5), 1)),
    "an epsilon ten times as large": ("text", single(1e-5, 1e-4)),
    "what 0 stands for": ("image", single(-8, -7)),
    "a factor of GELU": ("image", single(0.5, 0.51)),
    "tanh in the place of erf": ("image", called("Erf", "Tanh")),
    "a product in the place of a sum": ("image", called("Add", "Multiply")),
    "a difference the other way round": ("text", turned("Subtract")),
    "a root that is not inverse": ("text", setting("Sqrt", 0, False)),
    "another stride of padding": ("image", strides),
    "a kernel turned over": ("image", setting("Convolution", 6, True)),
    "a maximum in the place of a sum": ("image", setting("Reduce", 0, 5)),
    "probabilities that are less exact": ("image", setting("Softmax", 0, False)),
    "a bound": ("text", called("Minimum", "Maximum")),
    "a step of the text tower left out": ("text", called("Erf", "Negative")),
    "the CPU": ("image", lambda function: replace(function, device="cpu")),
    "an earlier form": ("image", lambda function: replace(function, metadata=None, version="0.32.1")),
    "another result": ("image", lambda function: replace(function, results=(function.results[0] - 1,))),
}
REFUSED: dict[str, tuple[Edit, str]] = {
    "another shape of a result": (said("Erf", shape=(1, 2)), "unlike its declaration"),
    "another type of a result": (said("Erf", dtype="float16"), "unlike its declaration"),
    "a result larger than it is": (said("Reduce", shape=(1 << 20, 1 << 10)), "unlike its declaration"),
    "a group that no product has": (setting(PRODUCT, 0, 48), "MLX cannot run its QuantizedMatmul"),
    "bits that this product has not": (setting(PRODUCT, 1, 4), "MLX cannot run its QuantizedMatmul"),
    "MLX's affine mode": (setting(PRODUCT, 2, 1), "MLX's affine mode"),
    "axes that are not there": (setting("Transpose", 0, (0, 7, 1, 2)), "MLX cannot run its Transpose"),
    "strides of nothing": (
        setting("Convolution", 0, (0, 0)),
        "MLX cannot run its Convolution|unlike its declaration",
    ),
    "more groups than channels": (setting("Convolution", 5, 7), "MLX cannot run its Convolution"),
    "an unknown operation": (called("Erf", "CustomKernel"), "'CustomKernel', which exports never write"),
    "a value that comes later": (ahead_of_itself, "uses a value before it is computed"),
    "no result": (lambda function: replace(function, results=()), "1 inputs and 0 results"),
}


def image(files: dict[TowerName, Path]) -> MlxFunction:
    return read_function(files["image"])


def test_what_was_read_is_what_stands_there(files: dict[TowerName, Path]) -> None:
    for path in files.values():
        assert packed(read_function(path)) == path.read_bytes()


@pytest.mark.parametrize("fault", SEEN)
def test_a_fault_is_seen_beside_a_conversion(files: dict[TowerName, Path], tmp_path: Path, fault: str) -> None:
    tower, edit = SEEN[fault]
    healthy, path = MlxArtifact(files[tower]).graph, tmp_path / "a.mlxfn"
    path.write_bytes(packed(edit(read_function(files[tower]))))
    assert said_of("mlx", files[tower], healthy) is None
    assert said_of("mlx", path, healthy) is not None


@pytest.mark.parametrize("fault", REFUSED)
def test_what_mlx_would_believe_is_refused(files: dict[TowerName, Path], tmp_path: Path, fault: str) -> None:
    """MLX takes shapes and types from the file, and reads and writes by them."""
    (edit, reason), path = REFUSED[fault], tmp_path / "a.mlxfn"
    path.write_bytes(packed(edit(image(files))))
    with pytest.raises(InvalidInput, match=reason) as refused:
        MlxArtifact(path).runner()
    assert "\n" not in refused.value.line


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda data: b"", "it is truncated"),
    "half a file": (lambda data: data[: len(data) // 2], "it is truncated"),
    "one byte less": (lambda data: data[:-1], "it is truncated"),
    "one byte more": (lambda data: data + b"\0", "1 extra bytes after its end"),
    "two functions": (lambda data: data[:14] + struct.pack("<i", 2) + data[18:], "more or fewer than one function"),
    "a function of any shape": (lambda data: data[:18] + b"\1" + data[19:], "of any shape"),
    "a boolean that is neither": (lambda data: data[:18] + b"\2" + data[19:], "neither"),
    "a version that is longer than the file": (lambda data: b"\xff" * 8 + data[8:], "it is truncated"),
    "a version that writes another form": (lambda data: data[:8] + b"0.31.9" + data[14:], "its inputs have names"),
}


@pytest.mark.parametrize("fault", BYTES)
def test_a_damaged_file_is_refused(files: dict[TowerName, Path], tmp_path: Path, fault: str) -> None:
    (edit, reason), path = BYTES[fault], tmp_path / "a.mlxfn"
    path.write_bytes(edit(files["image"].read_bytes()))
    with pytest.raises(InvalidInput, match=reason):
        _ = MlxArtifact(path).ports


def test_a_wrong_number_moves_the_answers_and_the_weights(files: dict[TowerName, Path], tmp_path: Path) -> None:
    path, rows = tmp_path / "a.mlxfn", inputs("image")[:1]
    path.write_bytes(packed(numbers(PRODUCT, 2, times(1.5))(image(files))))
    exact, wrong = MlxArtifact(files["image"]), MlxArtifact(path)
    assert not np.allclose(exact.runner()(rows), wrong.runner()(rows))
    pairs = zip(exact.weights or (), wrong.weights or (), strict=True)
    assert sum(not np.array_equal(one.values, other.values) for one, other in pairs) == 1
