"""Learned rounding from end to end: what is written is what was learned, and `verify` holds the file against it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from command_line import run
from exports import Exports, rehash
from tiny import WORDS, known

import mobileclip_deploy as mcd
from mobileclip_deploy.artifacts.bundle.opening import ROUNDING
from mobileclip_deploy.artifacts.towers.tower import make_tower
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.variants import load_variant, models_dir
from mobileclip_deploy.rounding import rounding
from mobileclip_deploy.rounding.calibration_set import CalibrationSet, read_calibration_set
from mobileclip_deploy.rounding.kept import forget
from mobileclip_deploy.rounding.moments import gather
from mobileclip_deploy.rounding.rounding import Learning, round_source
from mobileclip_deploy.rounding.tuning import TuningSettings
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.grids.encode import int4_blocks, to_nearest
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.verify.instruments.learned_rounding import stored_sha256, unlike_learned

pytestmark = pytest.mark.slow  # other files of this folder learn a rounding

CALIBRATION = models_dir() / "nano" / "calibration"


def few(data: CalibrationSet) -> CalibrationSet:
    return dataclasses.replace(data, pixels=data.pixels[:40], ids=data.ids[:120])


@pytest.fixture(scope="module")
def data() -> CalibrationSet:
    return few(read_calibration_set(CALIBRATION, load_variant("nano"), ("image", "text"), None))


@pytest.fixture(scope="module")
def bundle(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nano's text tower in ONNX, its 4-bit rounding learned, beside its checkpoint."""
    folder = tmp_path_factory.mktemp("learned")
    shutil.copy(exports.checkpoint, folder / "mine.safetensors")
    model = mcd.load_model(None, folder / "mine.safetensors")
    captions = (CALIBRATION / "prompts.txt").read_text(encoding="utf-8").splitlines()[:600]
    (folder / "mine").mkdir()
    (folder / "mine" / "prompts.txt").write_text("\n".join(captions), encoding="utf-8")
    choices = {"tower": "text", "rounding": "gptq", "calibration": folder / "mine", "verify": False}
    return mcd.export(model, "onnx", "w4", folder, **choices).path  # type: ignore[arg-type]


def checks(bundle: Path) -> dict[str, mcd.Check]:
    report = mcd.verify(bundle, checkpoint=bundle.parent / "mine.safetensors")
    return {check.step: check for check in report.checks if check.tower == "text"}


def test_what_was_chosen_is_recorded_and_held_against_the_file(bundle: Path) -> None:
    assert not list(bundle.parent.glob("*.learned"))
    entry = mcd.Bundle.open(bundle).manifest.rounding
    assert (entry.method, entry.calibration, entry.images, entry.captions) == ("gptq", "mine", 0, 600)
    tower = entry.towers["text"]
    assert len(tower.layers) > 8
    assert tower.learned_db > tower.nearest_db
    found = checks(bundle)
    assert {step: check.status for step, check in found.items() if check.status != "passed"} == {}
    assert f"{len(tower.layers)} of them with learned rounding" in str(found["weights"].detail)
    assert found["reproduced"].detail == (
        "byte for byte; converted with its own stored weights, whose rounding was learned"
    )


def damaged(bundle: Path, folder: Path) -> Path:
    """A copy in which one column of a product's integers is one step off, with hashes that agree."""
    from onnx import load, numpy_helper, save

    shutil.copy(bundle.parent / "mine.safetensors", folder)
    copy = Path(shutil.copytree(bundle, folder / bundle.name))
    file = next((copy / "onnx").glob("*.onnx"))
    model = load(file)
    product = next(node for node in model.graph.node if node.op_type == "MatMulNBits")
    stored = next(one for one in model.graph.initializer if one.name == product.input[1])
    integers = numpy_helper.to_array(stored).copy()  # [N, blocks, bytes]
    low = integers[:, 0, 0] & 0xF
    integers[:, 0, 0] = (integers[:, 0, 0] & 0xF0) | np.where(low < 15, low + 1, low - 1)
    stored.CopyFrom(numpy_helper.from_array(integers, stored.name))
    save(model, file)
    rehash(copy)
    return copy


def test_one_column_that_is_a_step_off_is_refused(bundle: Path, tmp_path: Path) -> None:
    wrong = damaged(bundle, tmp_path)
    checkpoint = str(tmp_path / "mine.safetensors")
    outcome = run("verify", str(wrong), "--checkpoint", checkpoint, "--checks", "quick", "--json")
    assert outcome.code == 1
    (weights,) = [check for check in outcome.json["checks"] if check["step"] == "weights"]
    assert weights["status"] == "failed"
    assert "is not the learned rounding" in weights["detail"]


def test_numbers_far_from_the_checkpoints_are_refused_whatever_the_manifest_says(bundle: Path, tmp_path: Path) -> None:
    from mobileclip_deploy.verify.instruments.matching import Matched, matched_weights

    opened = mcd.Bundle.open(bundle)
    model = mcd.load_model(None, bundle.parent / "mine.safetensors")
    mcd.reparameterize(model)
    target = get_target("onnx")
    module = make_tower(model, "text")
    grids = storage_of(target, "text", module, "w4")
    stored = target.open(opened.artifact("text")).weights
    assert stored is not None
    layers = opened.manifest.rounding.towers["text"].layers
    found = [match for match in matched_weights(module, stored)[0] if match.layer in layers]
    assert len(found) == len(layers)

    def swapped(match: Matched) -> Matched:
        values = match.stored.values.copy()
        values[[0, 1]] = values[[1, 0]]
        return dataclasses.replace(match, stored=dataclasses.replace(match.stored, values=values))

    assert [unlike_learned(match, grids[match.layer], layers[match.layer]) for match in found] == [None] * len(found)
    others = [unlike_learned(one, grids[one.layer], stored_sha256(one.stored)) for one in map(swapped, found)]
    assert all(str(one).startswith("is not a rounding of the checkpoint's: outputs 0, 1") for one in others), others


def test_other_floats_than_those_that_were_learned_are_refused(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / bundle.name))
    (copy / ROUNDING).write_bytes((copy / ROUNDING).read_bytes()[:-1] + b"\1")
    with pytest.raises(InvalidInput, match=r"rounding\.safetensors is not the file that was exported"):
        mcd.Bundle.open(copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    (copy / ROUNDING).unlink()
    assert manifest["rounding"]["floats"]["file"] == ROUNDING
    with pytest.raises(InvalidInput, match=r"rounding\.safetensors is missing"):
        mcd.Bundle.open(copy)


CASES = [("coreml", "image", "w4p", 31), ("executorch", "image", "w8a8", 17)]


@pytest.mark.once
@pytest.mark.parametrize(("name", "tower", "precision", "layers"), CASES)
def test_learned_towers_are_nearer_and_their_source_stays(
    name: str, tower: mcd.TowerName, precision: str, layers: int, data: CalibrationSet
) -> None:
    source = Source.of(mcd.load_model()).folded()
    before = {key: values.clone() for key, values in source.model.state_dict().items()}
    rounded = round_source(source, get_target(name), {tower: precision}, data, Learning("gptq"))
    (outcome,) = rounded.towers
    assert outcome.learned_db > outcome.nearest_db + 0.5
    assert len(outcome.layers) >= layers
    assert all(torch.equal(values, before[key]) for key, values in source.model.state_dict().items())
    assert rounded.source.provenance == source.provenance


def test_of_many_inputs_an_even_share_is_looked_at(data: CalibrationSet, monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    looked_at: list[Any] = []

    def gather(module: Any, layers: Any, batches: Any, *rest: Any) -> Any:
        looked_at.extend(torch.cat(list(batches)))
        raise Enough

    monkeypatch.setattr(rounding, "gather", gather)
    source = Source.of(mcd.load_model()).folded()
    for tower in ("image", "text"):
        looked_at.clear()
        wanted = data.learned(tower)[::2]  # type: ignore[arg-type]
        monkeypatch.setattr(rounding, "LOOKED_AT", {tower: len(wanted)})
        with pytest.raises(Enough):
            round_source(source, get_target("coreml"), {tower: "w4p"}, data, Learning("gptq"))  # type: ignore[dict-item]
        assert torch.equal(torch.stack(looked_at), wanted)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Source]:
    """A network of a few thousand weights, where what is learned is not the claim."""
    (tmp_path / "small").mkdir()
    with known(tmp_path / "small") as checkpoint:
        yield Source.of(mcd.load_model(WORDS, checkpoint)).folded()


def test_a_tower_that_was_learned_is_kept_until_its_bundle_is_written(
    data: CalibrationSet, small: Source, tmp_path: Path
) -> None:
    target, learning = get_target("onnx"), Learning("gptq", kept=tmp_path / "bundle.learned")
    one = dataclasses.replace(data, ids=data.ids[:40])

    def learn(on: CalibrationSet, called: int) -> Any:
        with mock.patch.object(rounding, "_round_tower", side_effect=rounding._round_tower) as learned:
            found = round_source(small, target, {"text": "w4"}, on, learning)
        assert learned.call_count == called
        return found

    first = learn(one, called=1)
    assert first.towers[0].layers
    again = learn(one, called=0)  # as after a kill
    assert again.towers == first.towers
    wanted, found = (result.source.model.state_dict() for result in (first, again))
    assert all(torch.equal(found[name], values) for name, values in wanted.items())
    learn(dataclasses.replace(one, sha256="of other data"), called=1)
    (tmp_path / "bundle.learned" / "text.safetensors").write_bytes(b"damaged")
    learn(one, called=1)
    (tmp_path / "bundle.learned" / "mine.txt").touch()
    forget(tmp_path / "bundle.learned")
    assert [path.name for path in (tmp_path / "bundle.learned").iterdir()] == ["mine.txt"]


def test_tuning_takes_the_table_of_words_along(data: CalibrationSet, small: Source) -> None:
    steps = TuningSettings(steps=6, batch=12)
    with (
        mock.patch.object(rounding, "TuningSettings", return_value=steps),
        mock.patch.object(rounding, "_decibels", side_effect=[20.0, 21.0, 22.0]),  # nearest, gptq, tuned
    ):
        rounded = round_source(small, get_target("onnx"), {"text": "w4"}, data, Learning("tuned"))
    (outcome,) = rounded.towers
    assert outcome.method == "tuned"
    assert "encoder.token_embedding.weight" in outcome.layers
    before, after = (one.state_dict() for one in (small.model, rounded.source.model))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert {"text.token_embedding.weight", "text.positional_embedding", "text.final_norm.weight"} <= changed
    # The exporter finds the table's numbers again.
    table = after["text.token_embedding.weight"][::50].numpy()
    integers, scales = int4_blocks(table, 16)
    assert np.array_equal((integers * scales[..., None]).reshape(table.shape), table)


def test_a_tower_that_learning_does_not_help_stays_as_it_was(data: CalibrationSet) -> None:
    source = Source.of(mcd.load_model()).folded()

    learn = rounding._round_layer

    def worse(layer: torch.nn.Conv2d, *rest: Any) -> Any:
        found = learn(layer, *rest)
        with torch.no_grad():
            layer.weight.mul_(1.1)
        return found

    with mock.patch.object(rounding, "_round_layer", worse):
        rounded = round_source(source, get_target("coreml"), {"image": "w4"}, data, Learning("gptq"))
    (outcome,) = rounded.towers
    assert outcome.layers == ()
    assert "learning did not help" in outcome.describe()
    kept, was = rounded.source.model.state_dict(), source.model.state_dict()
    assert all(torch.equal(kept[key], was[key]) for key in was)


def test_a_tower_that_is_on_its_grid_already_stays_and_is_said_to_be(data: CalibrationSet) -> None:
    source, target = Source.of(mcd.load_model()).folded(), get_target("onnx")
    module = make_tower(source.model, "text")
    grids = storage_of(target, "text", module, "w8")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(to_nearest(grids[name], parameter))
    one = dataclasses.replace(data, ids=data.ids[:20])
    with mock.patch.object(rounding, "_with_nearest", side_effect=lambda module, _: module):
        (outcome,) = round_source(source, target, {"text": "w8"}, one, Learning("gptq")).towers
    assert outcome.layers == ()
    assert outcome.describe() == "text tower: its weights are already quantized, rounding loses nothing"


def test_gradients_that_are_no_numbers_are_refused_by_name(data: CalibrationSet) -> None:
    model = Source.of(mcd.load_model()).folded().model
    with torch.no_grad():
        next(model.image.parameters())[0] = torch.nan  # type: ignore[union-attr]
    module = make_tower(model, "image").requires_grad_(False)
    layers = {name: one for name, one in module.named_modules() if isinstance(one, torch.nn.Conv2d)}
    with pytest.raises(InvalidInput, match=r"encoder\.\S+: its gradient is not a number"):
        gather(module, layers, data.pixels[:2].split(2), 0)
