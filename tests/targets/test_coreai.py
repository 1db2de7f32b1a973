"""Core AI: what is written holds our numbers, is read back as it stands, and is run by Apple's own runtime."""

from __future__ import annotations

import getpass
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_variant
from torch import nn
from writing import job_of

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import artifact_bytes
from mobileclip_deploy.folding import fold
from mobileclip_deploy.model.architecture import MobileCLIP, build_model
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.graph import first_difference
from mobileclip_deploy.towers import make_tower
from mobileclip_deploy.verify.matching import matched_weights

if importlib.util.find_spec("coreai_torch") is None:
    needs = "needs coreai-core and coreai-torch (Linux x86-64, macOS 26 arm64): pip install 'mobileclip-deploy[coreai]'"
    if os.environ.get("CI"):
        pytest.fail(needs)
    pytest.skip(needs, allow_module_level=True)

# What the layers of the small network that are worth it are stored as.
GRIDS = {
    ("image", "fp16"): {"float16"},
    ("image", "w8"): {"int8, a scale an output"},
    ("image", "w4p"): {"int8, a scale an output", "4-bit table for 32 outputs"},
    ("image", "w4"): {"int8, a scale an output", "int4, a scale 32 inputs"},
    ("text", "w6p"): {"6-bit table", "6-bit table for 32 outputs"},
    ("text", "w4"): {"int4, a scale 32 inputs", "int4, a scale 16 inputs"},
}
Write = Callable[[TowerName, str], Path]


@pytest.fixture(scope="module")
def model() -> MobileCLIP:
    """A small network with every kind of block, folded, its weights drawn anew: nothing is at its initial value."""
    torch.manual_seed(0)
    model = build_model(tiny_variant("tiny_mci")).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    fold(model)
    return model


@pytest.fixture(scope="module")
def write(model: MobileCLIP, tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Writes a tower at a precision, once."""
    folder = tmp_path_factory.mktemp("coreai")

    def write(tower: TowerName, precision: str) -> Path:
        path = folder / f"{tower}_{precision}.aimodel"
        if not path.exists():
            get_target("coreai").write(job_of(model, tower, precision), path)
        return path

    return write


def inputs(tower: TowerName) -> np.ndarray:
    generator = np.random.default_rng(0)
    if tower == "image":
        return generator.random((2, 3, 64, 64), np.float32)
    ids = generator.integers(1, 90, (2, 8))
    ids[:, 0], ids[0, 5:], ids[1, 7:] = 90, (91, 0, 0), 91
    return ids


def wanted(model: MobileCLIP, tower: TowerName) -> np.ndarray:
    with torch.no_grad():
        return make_tower(model, tower)(torch.from_numpy(inputs(tower))).numpy()


@pytest.mark.parametrize("tower", TOWERS)
def test_float32_is_the_tower_to_rounding(write: Write, model: MobileCLIP, tower: TowerName) -> None:
    runner = get_target("coreai").runner(write(tower, "fp32"))
    assert runner.engine.startswith("Core AI 1.")
    assert compare(wanted(model, tower), runner(inputs(tower))).relative < 5e-6


@pytest.mark.parametrize(("tower", "precision"), GRIDS)
def test_every_weight_is_read_back_on_its_grid(
    write: Write, model: MobileCLIP, tower: TowerName, precision: str
) -> None:
    target, module = get_target("coreai"), make_tower(model, tower)
    storage = target.storage(tower, module, precision)
    found, missing = matched_weights(module, target.weights(write(tower, precision)))
    assert missing == []
    assert [match.wrong(storage[match.layer], half=True) for match in found] == [None] * len(found)
    assert {storage[match.layer].describe() for match in found} - {"float16"} == GRIDS[tower, precision] - {"float16"}


@pytest.mark.parametrize("precision", ["w6p", "w4"])
def test_weights_restored_once_give_the_answers_of_the_file_itself(write: Write, precision: str) -> None:
    """What the runner leaves out of every inference is what Apple's operations compute, to the last bit."""
    from unittest import mock

    path, ids = write("text", precision), inputs("text")
    once = get_target("coreai").runner(path)(ids)
    with mock.patch("mobileclip_deploy.targets.coreai.runner.restore_weights", return_value=False):
        assert np.array_equal(get_target("coreai").runner(path)(ids), once)


@pytest.mark.parametrize("tower", TOWERS)
def test_a_second_export_has_the_same_content_in_other_bytes(
    write: Write, model: MobileCLIP, tower: TowerName, tmp_path: Path
) -> None:
    target, first, second = get_target("coreai"), write(tower, "w4"), tmp_path / "again.aimodel"
    target.write(job_of(model, tower, "w4"), second)
    assert first_difference(target.graph(first), target.graph(second)) is None
    assert first_difference(target.graph(first), target.graph(write(tower, "fp32"))) is not None


@pytest.mark.parametrize("tower", TOWERS)
def test_nothing_in_an_asset_names_this_machine(write: Write, tower: TowerName) -> None:
    words = [str(Path.cwd()), "site-packages", "/home/", "/tmp/", f"/{getpass.getuser()}/", "mobileclip_deploy/"]
    for file in write(tower, "w8").iterdir():
        data = file.read_bytes()
        assert [word for word in words if word.encode() in data] == [], file


def test_an_asset_says_what_it_is_and_where_its_weights_came_from(write: Write) -> None:
    told = json.loads((write("image", "w8") / "metadata.json").read_text(encoding="utf-8"))
    own = told["creatorDefinedMetadata"]
    assert (own["variant"], own["tower"], own["precision"]) == ("tiny_mci", "image", "w8")
    assert own["embedding_space"].startswith("test-")
    assert own["checkpoint_sha256"]


def test_inspect_tells_functions_ports_and_storage(write: Write) -> None:
    target, path = get_target("coreai"), write("image", "w4p")
    told = target.inspect(path)
    (function,) = told.functions.values()
    assert told.bytes == artifact_bytes(path)
    assert [(port.name, port.dtype, port.shape) for port in function.inputs] == [("image", "float32", (1, 3, 64, 64))]
    assert [(port.name, port.shape) for port in function.outputs] == [("final_emb_1", (1, 24))]
    assert {"lut_to_dense uint4", "blockwise_shift_scale int8", "const float16"} <= set(function.weights)
    source, result = target.describe(path)
    assert (source.name, source.dtype, result.name, result.dtype) == ("image", "float32", "final_emb_1", "float32")
    assert target.operators(path)["conv2d"] > 0


def test_operations_keep_quiet(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    get_target("coreai").runner(write("text", "w4"))(inputs("text"))
    assert capfd.readouterr() == ("", "")


def damaged(path: Path, folder: Path, kind: str) -> Path:
    """A copy of an asset that is not what it should be."""
    import hashlib
    import shutil

    copy = Path(shutil.copytree(path, folder / f"{kind}.aimodel"))
    program = copy / "main.mlirb"
    content = bytearray(program.read_bytes())
    if kind == "truncated":
        content = content[: len(content) // 2]
    elif kind == "edited":
        content[len(content) // 2] ^= 255
    elif kind == "foreign":
        content = bytearray(b"not bytecode at all" * 10)
    elif kind == "empty":
        content = bytearray()
    elif kind == "unhashed":
        (copy / "main.hash").unlink()
    elif kind == "nameless":
        (copy / "metadata.json").write_text("[]", encoding="utf-8")
    program.write_bytes(content)
    if kind in ("truncated", "foreign", "empty"):  # whoever wants it to go unseen writes the hash anew
        (copy / "main.hash").write_bytes(hashlib.sha256(content).digest())
    return copy


@pytest.mark.parametrize("kind", ["truncated", "edited", "foreign", "empty", "unhashed", "nameless"])
def test_a_damaged_asset_is_refused_in_one_line(
    write: Write, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    target, path = get_target("coreai"), damaged(write("text", "w4"), tmp_path, kind)
    for look in (target.describe, target.inspect, target.graph, target.weights, target.runner):
        with pytest.raises(InvalidInput) as caught:
            look(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
