"""Faults in .pte files, at every precision that XNNPACK has: each fails when compared with a conversion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conversions import Store
from faults.conftest import restamped
from faults.executorch_faults import FAULTS, HARMLESS, Edit
from faults.executorch_planting import PlantedProgram
from writing import subject, written

import mobileclip_deploy as mcd
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.towers.inputs import sample_inputs
from mobileclip_deploy.verify.reproduction import check_reproduced
from mobileclip_deploy.verify.subject import Subject

TOWERS: dict[TowerName, tuple[str, ...]] = {"image": ("fp32", "w8a8"), "text": ("fp32", "w8a8", "w8", "w4")}


@dataclass
class Programs:
    """Bundles of one tower each, as exported, by tower and precision."""

    folder: Path
    model: MobileCLIP
    reference: Reference
    bundles: dict[tuple[TowerName, str], Bundle]

    def check(self, tower: TowerName, precision: str, edit: Edit, folder: Path) -> tuple[Check, str | None]:
        """What is said of a copy with an edit, and what should be named."""
        healthy = self.bundles[tower, precision]
        entry = healthy.manifest.towers[tower]
        program = PlantedProgram(healthy.artifact(tower))
        program.alone()
        named = edit.plant(program)
        program.save(folder / entry.file)
        bundle = restamped(Bundle(folder, healthy.manifest))
        (check,) = check_reproduced(subject(bundle, self.model, self.reference, folder / "again"), tower)
        return check, named


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Programs:
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
    return Programs(folder, model, reference, bundles)


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


@pytest.mark.parametrize(("tower", "precision", "edit"), cases(FAULTS))
def test_every_fault_fails(programs: Programs, tower: TowerName, precision: str, edit: Edit, tmp_path: Path) -> None:
    check, named = programs.check(tower, precision, edit, tmp_path)
    assert check.status == "failed"
    assert (named or "") in str(check.detail)


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
    ids = programs.reference.inputs.ids[:2]
    target = get_target("executorch")
    np.testing.assert_array_equal(target.runner(tmp_path / "edited.pte")(ids), target.runner(healthy)(ids))


def test_bytes_at_random_are_read_or_refused(programs: Programs, tmp_path: Path) -> None:
    healthy = programs.bundles["text", "w4"].artifact("text").read_bytes()
    payloads = [at for at in range(0, len(healthy), 4) if healthy[at : at + 4] == b"XH00"]
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        data = bytearray(healthy)
        # The program's own tables, or those of a part.
        start = 0 if random.random() < 0.5 else int(random.choice(payloads))
        for at in random.integers(start, start + 4000, size=3):
            data[at] = random.integers(256)
        (tmp_path / "damaged.pte").write_bytes(data)
        try:
            assert get_target("executorch").graph(tmp_path / "damaged.pte") is not None
        except InvalidInput:
            refused += 1
    assert refused > 20
