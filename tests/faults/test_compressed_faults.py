"""Faults in compressed weights: wrong table entries, wrong order of nibbles, a wrong zero point."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults.conftest import Healthy, followed, restamped
from faults.planting import Planted
from mil.programs import ct, quiet

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.verify.checks import check_shipped
from mobileclip_deploy.verify.program_comparison import compare_programs

Edit = Callable[[Planted, str], None]

pytestmark = pytest.mark.usefixtures("stored_conversions")


def compressed(healthy: Healthy, folder: Path, kind: str) -> tuple[Bundle, str]:
    """A bundle of the image tower with its projection compressed, which hardly moves it; and that operation."""
    from coremltools.optimize import coreml as cto

    bundle = healthy.copy("image", folder)
    path = bundle.artifact("image")
    package = Planted(path)
    chosen = [operation for operation in package.block.operations if operation.type == "linear"][-1]
    weight = package.producer(package.source(chosen, "weight"))
    with quiet():
        if kind == "zero point":
            step = cto.OpLinearQuantizerConfig(mode="linear", weight_threshold=0)
            compress = cto.linear_quantize_weights
        else:
            step = cto.OpPalettizerConfig(mode="kmeans", nbits=4, weight_threshold=0)
            compress = cto.palettize_weights
        model = ct.models.MLModel(str(path), skip_model_load=True)
        names = {package.name(weight): step, package.name(chosen): step}
        compress(model, cto.OptimizationConfig(op_name_configs=names)).save(str(path))
    entry = bundle.manifest.towers["image"].model_copy(update={"precision": "w8"})
    manifest = bundle.manifest.model_copy(update={"towers": {"image": entry}})
    return restamped(Bundle(folder, manifest)), package.name(chosen)


def next_table_entry(package: Planted, operation: str) -> None:
    indices = package.compressed(package.named(operation), "weight", "indices")
    low, high = (indices + 1) & 15, ((indices >> 4) + 1) & 15
    indices[...] = high << 4 | low


def nibbles_swapped(package: Planted, operation: str) -> None:
    indices = package.compressed(package.named(operation), "weight", "indices")
    indices[...] = indices >> 4 | indices << 4


def other_zero_point(package: Planted, operation: str) -> None:
    source = package.producer(package.source(package.named(operation), "weight"))
    value = source.attributes["zero_point"]
    if value.WhichOneof("value") == "blobFileValue":
        package.compressed(package.named(operation), "weight", "zero_point")[...] += 48
    else:
        held = value.immediateValue.tensor.bytes
        held.values = (np.frombuffer(held.values, np.int8) + 48).astype(np.int8).tobytes()


@pytest.mark.parametrize(
    ("kind", "edit"), [("table", next_table_entry), ("nibbles", nibbles_swapped), ("zero point", other_zero_point)]
)
def test_a_fault_in_a_compressed_weight_is_caught_and_explained(
    healthy: Healthy, tmp_path: Path, kind: str, edit: Edit
) -> None:
    right, operation = compressed(healthy, tmp_path / "right", kind)
    (check,) = check_shipped(healthy.subject(right), "image")
    assert check.status == "passed"
    shutil.copytree(right.path, tmp_path / "wrong")
    wrong = Bundle(tmp_path / "wrong", right.manifest)
    package = Planted(wrong.artifact("image"))
    edit(package, operation)
    package.save()
    wrong = restamped(wrong)
    (check,) = check_shipped(healthy.subject(wrong), "image")
    assert (check.status, check.tower) == ("failed", "image")
    programs = [followed(bundle, "image") for bundle in (wrong, right)]
    found = compare_programs("image", *programs, healthy.feeds("image"))
    assert (found.finding, found.operation) == ("operation", operation)
    assert "its weight." in found.detail
