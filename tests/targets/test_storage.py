"""Storage, said before anything is converted, is what files hold: layer by layer, read from the files alone.

Of Core ML's packages test_coreml_compression holds this for every precision, where they are written.
"""

import hashlib
import itertools
import re
from typing import Any

import numpy as np
import pytest
from tiny import network
from torch import nn
from writing import chosen

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.towers.head import read_head
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import ExportError
from mobileclip_deploy.network.folding import fold
from mobileclip_deploy.network.model.architecture import build_model
from mobileclip_deploy.network.model.variants import TOWERS, TowerName, load_variant
from mobileclip_deploy.targets import get_target, rules
from mobileclip_deploy.targets.grids.grid import Grid, integers
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.targets.storage import Layer, Storage, by_numbers, layers, require_all, summary, total_bytes

both_towers = pytest.mark.parametrize("tower", TOWERS)


@pytest.fixture(scope="module")
def model() -> mcd.MobileCLIP:
    network = mcd.load_model()
    mcd.reparameterize(network)
    return network


def said(model: mcd.MobileCLIP, target: str, tower: TowerName, precision: str) -> tuple[nn.Module, Storage]:
    module = make_tower(model, tower)
    return module, storage_of(get_target(target), tower, module, precision)


def test_a_weight_that_the_converter_changed_is_not_passed_over(model: mcd.MobileCLIP) -> None:
    module, storage = said(model, "coreml", "text", "w4")
    names = by_numbers(module, storage)
    require_all(storage, names.values())
    lost = [name for name in names.values() if "blocks.1.fc1" not in name]
    with pytest.raises(ExportError, match=re.escape("encoder.blocks.1.fc1.weight is to be stored as int4")):
        require_all(storage, lost)


def test_what_targets_share_is_said_by_all_of_them(model: mcd.MobileCLIP) -> None:
    """Below 8 bits no target stores a depthwise convolution, or the projection."""
    cases = [
        ("coreml", "w4", "image"),
        ("coreml", "w4p", "image"),
        ("onnx", "w4", "text"),
        ("executorch", "w4", "text"),
    ]
    for target, precision, tower in cases:
        module, storage = said(model, target, tower, precision)  # type: ignore[arg-type]
        shapes = {name: value.shape for name, value in module.named_parameters()}
        depthwise = {name for name, shape in shapes.items() if len(shape) == 4 and shape[1] == 1}
        assert not any(storage[name].bits < 8 for name in depthwise)
        assert storage["encoder.projection.weight"].bits == 8


# The first digits of what each says of nano. One that changes changes artifacts: say so in the changelog.
STORED = {
    "coreai": "048c22783542",
    "coreml": "7db61cc7787b",
    "executorch": "a912a501bffc",
    "litert": "9315a3f95bc8",
    "onnx": "2564504a2921",
}


@pytest.mark.parametrize("name", STORED)
def test_weights_are_stored_as_they_were(model: mcd.MobileCLIP, name: str) -> None:
    target, said = get_target(name), hashlib.sha256()
    for tower, precision in itertools.product(
        TOWERS, (*sorted(target.capabilities.storing.precisions), *["mixed"] * target.capabilities.storing.mixes)
    ):
        module = make_tower(model, tower)
        four = frozenset(sorted(layer.parameter for layer in layers(module))[::2])
        for weight, grid in sorted(storage_of(target, tower, module, precision, four).items()):
            said.update(f"{tower} {precision} {weight} {sorted(vars(grid).items())}\n".encode())
    assert said.hexdigest()[:12] == STORED[name]


def test_a_target_that_says_nothing_is_taken_at_the_bits_of_its_precision(model: mcd.MobileCLIP) -> None:
    module = make_tower(model, "text")
    half, four = (rules.stored(None, "text", module, precision) for precision in ("fp16", "w4"))
    assert set(half.values()) == {Grid(16)}
    assert {grid.bits for grid in four.values()} == {4, 16}
    assert total_bytes(module, four) < 0.3 * total_bytes(module, half)


@pytest.mark.parametrize(
    ("grid", "size", "words"),
    [
        (Grid(16), 2 * 6144, "float16"),
        (integers(8, scale_bytes=4), 6144 + 64 * 4, "int8, a scale an output"),
        (integers(8, axis=1, scale_bytes=4), 6144 + 96 * 4, "int8, a scale an output"),
        (integers(4, block=32, scale_bytes=2), 3072 + 64 * 3 * 2, "int4, a scale 32 inputs"),
        (integers(4, block=36, scale_bytes=2), 3072 + 64 * 3 * 2, "int4, a scale 36 inputs"),  # the last one shorter
        (Grid(6, "table"), 4608 + 64 * 2, "6-bit table"),
        (Grid(4, "table", group=32), 3072 + 2 * 16 * 2, "4-bit table for 32 outputs"),
        (Grid(4, "table", group=32, pruned=0.5), 1536 + 768 + 64, "4-bit table for 32 outputs, 50% zeros"),
    ],
)
def test_a_grid_says_its_bytes_and_describes_itself(grid: Grid, size: int, words: str) -> None:
    assert (grid.bytes((64, 96)), grid.describe()) == (size, words)


def test_a_summary_counts_every_tensor_once(model: mcd.MobileCLIP) -> None:
    module, storage = said(model, "coreml", "image", "w4")
    rows = summary(module, storage)
    assert [row.grid for row in rows] == ["int4, a scale 32 inputs", "int8, a scale an output", "float16"]
    assert sum(row.layers for row in rows) == len(storage)
    assert sum(row.bytes for row in rows) == total_bytes(module, storage)
    counted = sum(int(np.prod(value.shape)) for value in (*module.parameters(), *module.buffers()))
    assert sum(row.weights for row in rows) == counted


def stored(target: str, name: TowerName, precision: str, **options: str) -> list[tuple[Layer, Any]]:
    """The layers of a small tower, and how each is stored."""
    module = make_tower(network(), name)
    found = storage_of(chosen(target, **options) if options else get_target(target), name, module, precision)
    return [(layer, found[layer.parameter]) for layer in layers(module) if layer.module is not None]


QUANTIZED = [
    ("coreml", "w8"),
    ("coreml", "w6p"),
    ("coreml", "w4p"),
    ("coreai", "w8"),
    ("coreai", "w4p"),
    ("onnx", "w4"),
]


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize(("target", "precision"), [*QUANTIZED, ("coreai", "w4"), ("onnx", "w8")])
def test_every_weight_of_more_than_2048_numbers_is_on_a_grid(target: str, precision: str, name: TowerName) -> None:
    found = stored(target, name, precision)
    assert {layer.weight.numel() > 2048 for layer, _ in found} == {True, False}
    for layer, grid in found:
        assert (grid.kind != "float") == (layer.weight.numel() > 2048), layer.name


@pytest.mark.parametrize(
    ("target", "precision", "options"),
    [
        ("coreml", "w4p", {}),
        ("coreml", "w4p", {"deployment_target": "iOS18"}),
        ("coreml", "w4", {"deployment_target": "iOS18"}),
        ("coreml", "w4p-p50", {"deployment_target": "iOS18"}),
        ("coreai", "w4p", {}),
        ("coreai", "w6p", {}),
        ("coreai", "w4", {}),
    ],
)
def test_depthwise_convolutions_and_the_main_path_keep_8_bits(
    target: str, precision: str, options: dict[str, str]
) -> None:
    found = stored(target, "image", precision, **options)
    large = [(layer, grid) for layer, grid in found if layer.weight.numel() > 2048]
    kept = [layer.name for layer, grid in large if grid.bits == 8]
    assert any(layer.is_projection for layer, grid in found if grid.bits >= 8)
    for layer, grid in found:
        main = layer.name == "projection" or layer.name.startswith("stem.") or ".downsample." in layer.name
        depthwise = isinstance(layer.module, nn.Conv2d) and layer.module.groups == layer.module.in_channels > 1
        assert grid.bits >= 8 or not (main or depthwise), layer.name
    assert len(kept) < len(large)


def test_core_ml_has_a_table_a_weight_before_ios_18_and_one_for_32_outputs_since() -> None:
    old, new = (stored("coreml", "image", "w4p", deployment_target=f"iOS{number}") for number in (17, 18))
    assert {grid.group for _, grid in old if grid.kind == "table"} == {None}
    tables = [(layer, grid) for layer, grid in new if grid.kind == "table"]
    assert tables
    for layer, grid in tables:
        assert grid.group == next(size for size in (32, 16, 8) if layer.outputs % size == 0)


def test_the_table_of_words_has_int4_in_blocks_of_16_on_core_ai_and_onnx() -> None:
    for target, precision in (("coreai", "w4p"), ("coreai", "w4"), ("onnx", "w4")):
        ((_, grid),) = [one for one in stored(target, "text", precision) if one[0].is_table]
        assert (grid.kind, grid.bits, grid.block, grid.scale_bytes) == ("integers", 4, 16, 2)
    blocks = {grid.block for layer, grid in stored("onnx", "text", "w4") if grid.bits == 4 and not layer.is_table}
    assert blocks == {32}


def test_on_onnx_the_product_with_a_classifiers_labels_stays_in_float() -> None:
    model = build_model(load_variant("nano")).eval()
    fold(model)
    module = read_head([f"label {number}" for number in range(20)]).module(model, "image")
    (own,) = [layer.parameter for layer in layers(module) if layer.module is None]
    for target, kind in (("onnx", "float"), ("coreml", "integers")):
        assert storage_of(get_target(target), "image", module, "w8")[own].kind == kind
    assert get_target("executorch").artifact_name(model.variant, "image", "fp32") == "nano_image.xnnpack.pte"
    assert get_target("executorch").tensors(model.variant, "image", 20)[1].shape == (1, 20)
