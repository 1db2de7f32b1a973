"""LiteRT: what is written holds our numbers, is read back as it stands, and is run by LiteRT's own interpreter."""

import copy
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from conversions import Store
from litert_files import Files, require_litert
from tiny import inputs, wanted
from torch import nn

from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import DependencyMissing, UsageError
from mobileclip_deploy.export.request import ExportRequest, choose
from mobileclip_deploy.export.smallest.candidates import four_bit_layers
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.depthwise import BANDS, KERNEL
from mobileclip_deploy.targets.litert.opening import LiteRTArtifact
from mobileclip_deploy.targets.litert.runner import declared
from mobileclip_deploy.targets.rules import storage_of

require_litert()


@pytest.fixture(scope="module")
def files(store: Store) -> Files:
    return Files(store.folder / "litert")


def test_the_weights_of_the_search_for_the_smallest_have_four_bits_where_they_were_named(files: Files) -> None:
    target, module = get_target("litert"), make_tower(files.model, "text")
    four, eight = (storage_of(target, "text", module, precision) for precision in ("w4", "w8"))
    able = four_bit_layers(target, "text", module)
    assert able == {name for name, grid in four.items() if grid.bits == 4}
    assert len(able) == 6
    chosen = min(able)
    mixed = storage_of(target, "text", module, "mixed", frozenset({chosen}))
    assert mixed == eight | {chosen: four[chosen]}
    target.require({"text": "mixed"}, mixed=True)


@pytest.mark.parametrize("tower", TOWERS)
def test_what_the_converter_multiplies_into_weights_is_in_them_before_training(files: Files, tower: TowerName) -> None:
    target, model = get_target("litert"), copy.deepcopy(files.model)
    with torch.no_grad():
        model.text.final_norm.weight[0] = 0
    module = make_tower(model, tower)
    before = wanted(model, tower)
    target.capabilities.storing.absorb(module)
    assert compare(before, wanted(model, tower)).relative < 5e-6
    fixed = [
        float(value)
        for name in target.capabilities.storing.fixed(module)
        for value in module.get_parameter(name).detach().flatten()
    ]
    assert [value for value in fixed if value != 1] == ([0.0] if tower == "text" else [])
    assert len(target.capabilities.storing.fixed(module)) == {"image": 5, "text": 7}[tower]


def test_a_band_of_rows_outside_of_its_map_leaves_the_convolution_whole(files: Files) -> None:
    """At 64 pixels the last maps are 2 x 2: rows two away from the centre meet nothing there."""
    model = LiteRTArtifact(files.path("image", "w8a8")).model
    windows = [
        (model.tensors[one.inputs[1]].shape[1:3], model.tensors[one.inputs[0]].shape[1])
        for one in model.operators
        if one.type == "DEPTHWISE_CONV_2D"
    ]
    bands = {shape for shape, height in windows if height > 2 and shape[1] == 7}
    assert {(3, 7), (2, 7)} <= bands
    assert {shape for shape, height in windows if height == 2 and shape[1] == 7} == {(7, 7)}


@pytest.mark.slow
def test_convolutions_that_double_the_channels_are_two_with_one_output_a_channel(files: Files) -> None:
    model = LiteRTArtifact(files.path("image", "fp32")).model
    large = [
        one
        for one in model.operators
        if one.type == "DEPTHWISE_CONV_2D" and model.tensors[one.inputs[1]].shape[2] == KERNEL
    ]
    assert {one.settings["multiplier"] for one in large} == {1}
    module = make_tower(files.model, "image")
    convs = [one for one in module.modules() if isinstance(one, nn.Conv2d) and one.kernel_size == (KERNEL, KERNEL)]
    halving = [conv.out_channels // conv.in_channels for conv in convs if conv.stride == (2, 2)]
    assert sorted(halving) == [1, 2, 2]
    assert sum(one.settings["stride_h"] == 2 for one in large) == len(BANDS) * sum(halving)
    weights = get_target("litert").open(files.path("image", "fp32")).weights
    for conv in convs:
        assert any(np.array_equal(one.values, conv.weight.detach().numpy()) for one in weights)
    assert len({tensor.name for tensor in model.tensors}) == len(model.tensors)


def test_a_file_says_what_it_is_and_where_its_weights_came_from(files: Files) -> None:
    path = files.path("image", "w8a8")
    model = LiteRTArtifact(path).model
    own = json.loads(model.metadata["mobileclip_deploy"])
    assert (own["variant"], own["tower"], own["precision"], own["checkpoint_sha256"]) == (
        "tiny_mci",
        "image",
        "w8a8",
        "0" * 64,
    )
    source, result = get_target("litert").open(files.path("text", "w4")).ports
    assert (source.name, source.dtype, source.shape) == ("text", "int32", (1, 8))
    assert (result.name, result.dtype) == ("embedding", "float32")
    artifact = get_target("litert").open(path)
    contents = artifact.contents
    assert contents["weight_bytes"]["int8"] > 0
    assert sum(contents["weight_bytes"].values()) < path.stat().st_size
    counts = artifact.operators.items()
    assert contents["operators"]["CONV_2D"] == sum(count for name, count in counts if name.startswith("CONV_2D"))


def test_constants_stand_where_kernels_may_load_sixteen_bytes_at_a_time(files: Files) -> None:
    path = files.path("image", "w8a8")
    data, model = path.read_bytes(), LiteRTArtifact(path).model
    large = [tensor.values for tensor in model.tensors if tensor.values is not None and tensor.values.nbytes > 4096]
    assert large
    assert {data.index(values.tobytes()) % 16 for values in large} == {0}


def test_without_the_converter_files_are_read_and_run_and_an_export_says_which_extra(files: Files) -> None:
    path, target, find = files.path("text", "w4"), get_target("litert"), importlib.util.find_spec
    with mock.patch("importlib.util.find_spec", lambda name: None if name == "litert_torch" else find(name)):
        target.require_installed()
        assert target.open(path).runner()(inputs("text")).shape[0] == 2
        with pytest.raises(DependencyMissing, match=r"litert_torch; type: pip install 'mobileclip-deploy\[litert\]'"):
            target.require({"text": "fp32"})


@pytest.mark.slow
def test_neither_writing_nor_running_says_anything(files: Files, tmp_path: Path) -> None:
    """LiteRT's packages write some fifteen lines to the process's own streams."""
    script = (
        "import numpy; from pathlib import Path; from litert_files import Files; from mobileclip_deploy.targets import "
        "get_target; path = Files(Path('.')).path('text', 'w8'); "
        "print(get_target('litert').open(path).runner()(numpy.ones((1, 8), int)).shape)"
    )
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parents[3]}"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("(1, 24)\n", "")


def test_it_is_timed_on_places_of_phones_too_and_foreign_files_say_what_they_take(files: Files) -> None:
    target, path = get_target("litert"), files.path("text", "w4")
    assert [one.label for one in target.places("host", {})] == ["litert-cpu"]
    assert [one.label for one in target.places("android", {})] == ["litert-cpu", "litert-gpu"]
    (taken,), (given,) = declared(path)
    assert (taken.dtype, taken.shape, given.dtype, given.shape) == ("int32", (1, 8), "float32", (1, 24))


def test_a_free_batch_is_refused_with_the_reason() -> None:
    with pytest.raises(
        UsageError, match=r"`dynamic_batch` is not supported for LiteRT: litert-torch .* cannot convert"
    ):
        choose(ExportRequest(targets=("litert",), options={"dynamic_batch": True}))
