"""MLX: what is written answers as the tower does, on this CPU, and is read back as it stands."""

import struct
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from mlx_files import network, packed, require_mlx, write
from tiny import inputs, wanted
from writing import chosen

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import InvalidInput, Malformed, NotRun, UsageError
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.mlx.function_file import read_function
from mobileclip_deploy.targets.mlx.opening import MlxArtifact
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.verify.inspect.inspection import inspect
from mobileclip_deploy.verify.instruments.matching import matched_weights

require_mlx()

PRECISIONS = ("fp32", "fp16", "w8", "w4")


@pytest.fixture(scope="module")
def model() -> MobileCLIP:
    return network()


@pytest.fixture(scope="module")
def files(model: MobileCLIP, tmp_path_factory: pytest.TempPathFactory) -> dict[TowerName, dict[str, Path]]:
    folder = tmp_path_factory.mktemp("mlx")
    return {tower: write(model, tower, folder, *PRECISIONS) for tower in TOWERS}


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_weight_is_read_back_on_its_grid(
    model: MobileCLIP, files: dict[TowerName, dict[str, Path]], precision: str
) -> None:
    for tower in TOWERS:
        module, target = make_tower(model, tower), get_target("mlx")
        storage = storage_of(target, tower, module, precision)
        stored = MlxArtifact(files[tower][precision]).weights
        assert stored is not None
        found, missing = matched_weights(module, stored)
        assert not missing
        wrong = {match.layer: match.wrong(storage[match.layer], precision == "fp16") for match in found}
        assert {layer: text for layer, text in wrong.items() if text is not None} == {}
        bits = {match.stored.bits for match in found}
        wanted_bits = {"fp32": {32}, "fp16": {16}, "w8": {8}, "w4": {4}}[precision]
        assert wanted_bits <= bits <= wanted_bits | ({8, 16, 32} if precision.startswith("w") else set())


@pytest.mark.slow
def test_the_device_and_the_form_stand_in_the_file(model: MobileCLIP, tmp_path: Path) -> None:
    (usual,) = write(model, "text", tmp_path, "fp32").values()
    (tmp_path / "cpu").mkdir()
    (other,) = write(model, "text", tmp_path / "cpu", "fp32", unit="cpu", reader="0.31").values()
    first, second = read_function(usual), read_function(other)
    assert (first.device, second.device, second.metadata) == ("gpu", "cpu", None)
    assert first.metadata == "tiny_mci text fp32; "
    told = inspect(usual).as_dict()["facts"], inspect(other).as_dict()["facts"]
    assert [one["device"][:4] for one in told] == ["GPU ", "CPU "]
    assert [one["read by"] for one in told] == ["MLX 0.32.2 and newer", "MLX up to 0.32.1"]
    assert usual.read_bytes() != other.read_bytes()
    rows = inputs("text")
    assert np.array_equal(MlxArtifact(usual).runner()(rows), MlxArtifact(other).runner()(rows))


@pytest.mark.slow
def test_an_app_imports_a_file_for_the_cpu_as_it_stands(model: MobileCLIP, tmp_path: Path) -> None:
    import mlx.core as mx

    (path,) = write(model, "image", tmp_path, "fp32", unit="cpu").values()
    function, metadata = mx.import_function(str(path), return_metadata=True)
    rows = inputs("image")[:1]
    (found,) = function(mx.array(rows))
    assert compare(wanted(model, "image")[:1], np.array(found)).cosine > 1 - 1e-9
    assert "image fp32" in metadata


@pytest.mark.slow
def test_another_thread_may_ask(files: dict[TowerName, dict[str, Path]]) -> None:
    runner, rows, found = MlxArtifact(files["text"]["fp16"]).runner(), inputs("text"), []
    thread = threading.Thread(target=lambda: found.append(runner(rows)))
    thread.start()
    thread.join()
    assert np.array_equal(found[0], runner(rows))


def test_what_it_cannot_be_asked_for_is_refused_and_a_cpu_is_not_timed_for_a_gpu() -> None:
    with pytest.raises(UsageError, match="unknown unit 'npu'; known: gpu, cpu"):
        chosen("mlx", unit="npu").require({"image": "fp16"})
    with pytest.raises(UsageError, match=r"unknown reader '1'; known: 0\.32, 0\.31"):
        chosen("mlx", reader="1").require({"image": "fp16"})
    for device, told in (("ios", "measure in yours"), ("mac", "by `device='host'`")):
        with pytest.raises(NotRun, match=told):
            get_target("mlx").places(device, {})
    with mock.patch("mobileclip_deploy.targets.mlx.target._has_gpu", return_value=False):
        with pytest.raises(NotRun, match="benchmark it on a Mac; the time of a CPU does not predict it"):
            get_target("mlx").places("host", {})
        assert [place.runtime for place in get_target("mlx").places("host", {"unit": "cpu"})] == ["mlx"]
    target, missing = get_target("mlx"), NotRun("MLX runs these files and cannot be imported")
    with mock.patch.dict(sys.modules, {"mlx": None}):  # what a Mac lacks then is no GPU
        with mock.patch.object(sys, "platform", "linux"), pytest.raises(NotRun, match="benchmark it on a Mac"):
            target.places("host", {})
        imports = mock.patch("mobileclip_deploy.targets.mlx.opening.runtime", side_effect=missing)
        with imports, mock.patch.object(sys, "platform", "darwin"), pytest.raises(NotRun, match="cannot be imported"):
            target.places("host", {})


def test_a_file_written_by_hand_is_read_where_mlx_is_missing_and_its_shapes_are_believed_nowhere(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mlxfn"
    path.write_bytes(smallest())
    function = read_function(path)
    (step,) = function.steps
    assert (step.name, step.inputs, function.device, function.version) == ("Negative", (0,), "cpu", "0.32.4")
    assert packed(function) == smallest()
    found = MlxArtifact(path)
    assert found.operators == {"Negative": 1}
    without = {"mlx.core": None, "mobileclip_deploy.targets.mlx.runner": None}
    with (
        mock.patch.dict(sys.modules, without),
        pytest.raises(NotRun, match=r"imported \(.*\bmlx\b.*\); type: pip install 'mobileclip-deploy\[mlx\]'"),
    ):
        found.runner()
    path.write_bytes(smallest(said=4096))
    with pytest.raises(InvalidInput, match="unlike its declaration"):
        MlxArtifact(path).runner()
    path.write_bytes(smallest())
    row = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    assert np.array_equal(MlxArtifact(path).runner()(row), -row)


def smallest(said: int = 2) -> bytes:
    """A file of one operation, written by hand: -x, of a shape that it says."""

    def shape(*sizes: int) -> bytes:
        return struct.pack(f"<Q{len(sizes)}i", len(sizes), *sizes) + struct.pack("<iB", 10, 4)

    begin = struct.pack("<Q6siBQ", 6, b"0.32.4", 1, 0, 0) + struct.pack("<Q", 0)
    ports = struct.pack("<QQQ", 1, 0, 1) + shape(1, 1, 2, 2) + struct.pack("<QQ", 1, 1)
    first = struct.pack("<QQBB", 2, 0, 0, 0)
    negative = struct.pack("<QBQQiiiQ8sQ", 1, 1, 1, 0, 0, 0, 0, 8, b"Negative", 0) + shape(1, 1, 2, said)
    return begin + ports + first + negative


def walk(kind: str, dtype: str, **settings: str) -> Any:
    """What traces a graph of one operation on [1, 64]."""
    import mlx.core as mx
    import onnx_ir as ir

    from mobileclip_deploy.targets.mlx.walking import Walk

    source = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 64]))
    node = ir.node(kind, [source], settings)
    return Walk(ir.Graph([source], [node.outputs[0]], nodes=[node], opset_imports={"": 20}), getattr(mx, dtype))


def test_an_operation_that_is_not_written_for_mlx_is_named() -> None:
    import mlx.core as mx

    with pytest.raises(Malformed, match="the operation Hardmax, which is not supported for MLX"):
        walk("Hardmax", "float32")(mx.zeros((1, 64)))


@pytest.mark.parametrize("form", ["none", "tanh"])
def test_a_gelu_s_own_numbers_are_not_rounded_to_float16(tmp_path: Path, form: str) -> None:
    """`graph` allows 1e-4 for all that float16 rounds beside weights, and 1 / sqrt(2) as one float16 took most of it:
    with every float16 computed as float32, what is left are the numbers that stand in the file."""
    import mlx.core as mx

    path, row = tmp_path / "a.mlxfn", np.linspace(-3, 3, 64, dtype=np.float32)[None]
    with mx.stream(mx.cpu):
        mx.export_function(str(path), walk("Gelu", "float16", approximate=form), mx.zeros((1, 64)))
    exact = torch.nn.functional.gelu(torch.from_numpy(row).double(), approximate=form).numpy()
    assert compare(exact, MlxArtifact(path).plain_runner()(row)).relative < 3e-6
