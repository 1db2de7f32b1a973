"""Faults in .pte files, at every precision that XNNPACK has: each fails when compared with a conversion."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conversions import Store
from faults.executorch_faults import FAULTS, HARMLESS, Edit
from faults.executorch_planting import Array, PlantedProgram
from faults.kinds import conversions_read_once
from torch import nn
from writing import job_of, subject, written

import mobileclip_deploy as mcd
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.targets.executorch.coreml_payload import payload_files
from mobileclip_deploy.targets.graph import first_difference
from mobileclip_deploy.targets.rules import storage_of
from mobileclip_deploy.towers.inputs import sample_inputs
from mobileclip_deploy.verify.reproduction import check_reproduced
from mobileclip_deploy.verify.subject import Subject

TOWERS: dict[TowerName, tuple[str, ...]] = {"image": ("fp32", "w8a8"), "text": ("fp32", "w8a8", "w8", "w4")}


@dataclass
class Programs:
    """Bundles of one tower each, as exported, by tower and precision."""

    folder: Path
    model: MobileCLIP
    own: Subject
    bundles: dict[tuple[TowerName, str], Bundle]
    taken_apart: dict[tuple[TowerName, str], bytes] = field(default_factory=dict)

    def program(self, tower: TowerName, precision: str) -> PlantedProgram:
        """One to be edited, its constants apart; the file is read once, and what was read is copied for each."""
        if (tower, precision) not in self.taken_apart:
            read = PlantedProgram(self.bundles[tower, precision].artifact(tower))
            read.alone()
            self.taken_apart[tower, precision] = pickle.dumps(read)
        copy: PlantedProgram = pickle.loads(self.taken_apart[tower, precision])
        return copy

    def check(self, tower: TowerName, precision: str, edit: Edit, folder: Path) -> tuple[Check, str | None]:
        """What is said of a copy with an edit, and what should be named."""
        bundle = Bundle(folder, self.bundles[tower, precision].manifest)
        program = self.program(tower, precision)
        named = edit.plant(program)
        program.save(bundle.artifact(tower))
        (check,) = check_reproduced(replace(self.own, bundle=bundle), tower)
        return check, named


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Iterator[Programs]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pte")
    model = mcd.load_model()
    reference = Reference.compute(model, sample_inputs(model))
    with store.conversions():
        bundles = {
            (tower, precision): written(
                model, get_target("executorch"), {tower: precision}, folder / tower, reference, verify=False
            ).bundle
            for tower, precisions in TOWERS.items()
            for precision in precisions
        }
    paths = [bundle.artifact(tower) for (tower, _), bundle in bundles.items()]
    with conversions_read_once("executorch", paths):
        own = subject(bundles["image", "fp32"], model, reference, folder / "again")
        yield Programs(folder, model, own, bundles)


@pytest.fixture(autouse=True)
def _converted_once(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a conversion gives is what it gave before: so it is not made three hundred times."""

    def converted(own: Subject, tower: TowerName, *_: object) -> Path:
        return programs.bundles[tower, own.bundle.manifest.towers[tower].precision].artifact(tower)

    monkeypatch.setattr(Subject, "converted", converted)


def cases(edits: tuple[Edit, ...]) -> list[object]:
    return [
        pytest.param(tower, precision, edit, id=f"{tower}-{precision}-{edit}")
        for edit in edits
        for tower, precisions in TOWERS.items()
        for precision in precisions
        if tower in edit.towers and precision in edit.precisions
    ]


@pytest.mark.once("edit")
@pytest.mark.parametrize(("tower", "precision", "edit"), cases(FAULTS))
def test_every_fault_fails(programs: Programs, tower: TowerName, precision: str, edit: Edit, tmp_path: Path) -> None:
    check, named = programs.check(tower, precision, edit, tmp_path)
    assert check.status == "failed"
    assert (named or "") in str(check.detail)


@pytest.mark.once("edit")
@pytest.mark.parametrize(("tower", "precision", "edit"), cases(HARMLESS))
def test_no_harmless_edit_does(
    programs: Programs, tower: TowerName, precision: str, edit: Edit, tmp_path: Path
) -> None:
    check, _ = programs.check(tower, precision, edit, tmp_path)
    assert (check.status, check.detail) == ("passed", "the same operations and constants; other bytes")


@pytest.mark.parametrize("edit", HARMLESS, ids=str)
def test_what_is_called_harmless_computes_the_same(programs: Programs, edit: Edit, tmp_path: Path) -> None:
    healthy = programs.bundles["text", "w4"].artifact("text")
    program = PlantedProgram(healthy)
    edit.plant(program)
    program.save(tmp_path / "edited.pte")
    ids = programs.own.evidence.reference.inputs.ids[:2]
    target = get_target("executorch")
    np.testing.assert_array_equal(
        target.open(tmp_path / "edited.pte").runner()(ids), target.open(healthy).runner()(ids)
    )


@pytest.mark.parametrize(("tower", "precision"), [(tower, one) for tower, many in TOWERS.items() for one in many])
def test_every_layer_stands_in_the_file_as_its_storage_says(
    programs: Programs, tower: TowerName, precision: str
) -> None:
    target, module = get_target("executorch"), copy.deepcopy(job_of(programs.model, tower, precision).module)
    target.abilities.absorb(module)
    stored = target.open(programs.bundles[tower, precision].artifact(tower)).weights
    assert stored is not None
    layers = [
        (f"{name}.weight", layer.weight.detach().numpy())
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear, nn.Embedding))
    ]
    grids, left = storage_of(target, tower, module, precision), list(stored)
    for name, wanted in layers:
        # A 1 x 1 convolution may be written as a product.
        same = [weight for weight in left if bare(weight.values) == bare(wanted)]
        weight = min(
            same, key=lambda weight: float(np.square(weight.values - wanted.reshape(weight.values.shape)).sum())
        )
        left = [other for other in left if other is not weight]
        given = wanted.reshape(weight.values.shape)
        assert (weight.kind, weight.bits) == (grids[name].kind, grids[name].bits), name
        # A number half a step from two others may have gone to either.
        step = np.abs(weight.nearest(given) - given) * (1 + 1e-3) + 1e-6 * np.abs(given).max()
        assert (np.abs(weight.values - given) <= step).all(), name
        bound = {32: 1e-6, 8: 0.03, 4: 0.15}[weight.bits]
        assert np.linalg.norm(weight.values - given) <= bound * np.linalg.norm(given), name
    # What is left: the positions, and the mask that sums up to the first end of text.
    assert [len(weight.values) for weight in left] == ([] if tower == "image" else [77, 77])


def bare(array: Array) -> tuple[int, ...]:
    return tuple(size for size in array.shape if size > 1)


@pytest.mark.parametrize("precision", TOWERS["text"])
@pytest.mark.parametrize(
    "name", ["a channel scaled by 1.5", "two channels swapped", "words that no prompt holds swapped"]
)
def test_a_weight_that_was_changed_is_read_as_it_is(
    programs: Programs, precision: str, name: str, tmp_path: Path
) -> None:
    target, healthy = get_target("executorch"), programs.bundles["text", precision].artifact("text")
    program = PlantedProgram(healthy)
    program.alone()
    next(edit for edit in FAULTS if edit.name == name).plant(program)
    program.save(tmp_path / "edited.pte")
    before, after = target.open(healthy).weights, target.open(tmp_path / "edited.pte").weights
    assert before is not None
    assert after is not None
    changed = [(a, b) for a, b in zip(before, after, strict=True) if not np.array_equal(a.values, b.values)]
    ((was, now),) = changed
    # Its grid cannot hold the numbers that belong there, or it holds others than those nearest to them.
    assert np.abs(now.nearest(was.values) - now.values).max() > 0 or "scaled" in name


@pytest.mark.parametrize("fault", ["none", "payload", "named data"])
def test_a_part_that_is_not_read_is_compared_byte_by_byte(programs: Programs, fault: str, tmp_path: Path) -> None:
    paths = tmp_path / "healthy.pte", tmp_path / "edited.pte"
    for path in paths:
        program = PlantedProgram(programs.bundles["image", "w8a8"].artifact("image"))
        for delegate in program.plan["delegates"]:
            delegate["id"] = "VulkanBackend"
        if path is paths[1] and fault == "payload":
            program.parts[0]["xnodes"][0]["debug_handle"] += 1
        if path is paths[1] and fault == "named data":
            next(iter(program.named.values()))[3] ^= 1
        program.spare = paths.index(path)
        program.save(path)
    difference = first_difference(*(get_target("executorch").open(path).graph for path in paths))
    assert (difference is None) == (fault == "none")
    assert difference is None or "VulkanBackend" in difference.describe()


def test_a_core_ml_folder_that_is_no_tree_is_refused() -> None:
    """A folder within itself, or shared a thousand times: the files of it would have no end."""
    shared = {"kind": 1, "children": {str(number): 1 for number in range(9)}}
    nodes = [{"kind": 0, "dataRegion": {"offset": 0, "size": 1}}, {"kind": 1, "children": {"a": 0}}, shared]
    with pytest.raises(ValueError, match="a file is in two folders"):
        payload_files(b"x" + json.dumps({"nodes": nodes})[::-1].encode())


def test_bytes_at_random_are_read_or_refused(programs: Programs, tmp_path: Path) -> None:
    healthy = programs.bundles["text", "w4"].artifact("text").read_bytes()
    payloads = [at for at in range(0, len(healthy), 4) if healthy[at : at + 4] == b"XH00"]
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        data = bytearray(healthy)
        # The program's own tables, or those of a part.
        start = 0 if random.random() < 0.5 else int(random.choice(payloads))
        for at in random.integers(start, start + 4000, size=3):
            data[at] = random.integers(256)
        (tmp_path / "damaged.pte").write_bytes(data)
        try:
            assert get_target("executorch").open(tmp_path / "damaged.pte").graph is not None
            assert get_target("executorch").open(tmp_path / "damaged.pte").weights is not None
        except InvalidInput:
            refused += 1
    assert refused > 10
