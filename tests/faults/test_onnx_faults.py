"""Faults in ONNX files, at every precision: each fails when compared with a conversion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conversions import Store
from faults.kinds import Edit, cases, conversions_read_once, require_failed, require_passed
from faults.onnx_faults import FAULTS, HARMLESS
from faults.onnx_planting import PlantedOnnx
from writing import subject

import mobileclip_deploy as mcd
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.verify.reproduction import check_reproduced
from mobileclip_deploy.verify.subject import Subject

PRECISIONS = ("fp32", "fp16", "w8", "w8a8", "w4")
ALL = dict.fromkeys(TOWERS, PRECISIONS)


@dataclass
class Files:
    """Bundles as exported, by precision, with what is verified of them."""

    subjects: dict[str, Subject]
    content: dict[Path, bytes]

    def healthy(self, tower: TowerName, precision: str) -> Path:
        return self.subjects[precision].bundle.artifact(tower)

    def edited(
        self, tower: TowerName, precision: str, edit: Edit[PlantedOnnx], folder: Path
    ) -> tuple[Bundle, str | None]:
        """A copy with an edit, and what should be named."""
        bundle = Bundle(folder, self.subjects[precision].bundle.manifest)
        file = PlantedOnnx(self.content[self.healthy(tower, precision)])
        named = edit.plant(file)
        file.save(bundle.artifact(tower))
        return bundle, named

    def check(self, tower: TowerName, precision: str, bundle: Bundle) -> Check:
        (check,) = check_reproduced(replace(self.subjects[precision], bundle=bundle), tower)
        return check


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, store: Store) -> Iterator[Files]:
    torch.set_num_threads(1)
    folder, model = tmp_path_factory.mktemp("onnx"), mcd.load_model()
    subjects = {}
    for precision in PRECISIONS:
        with store.conversions():
            bundle = mcd.export(model, "onnx", precision, folder, verify=False)
        subjects[precision] = subject(bundle, model, Reference.read(bundle.golden), folder / "again")
    paths = [own.bundle.artifact(tower) for own in subjects.values() for tower in TOWERS]
    with conversions_read_once("onnx", paths):
        yield Files(subjects, {path: path.read_bytes() for path in paths})


@pytest.fixture(autouse=True)
def _converted_once(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a conversion gives is what it gave before: so it is not made five hundred times."""

    def converted(own: Subject, tower: TowerName, *_: object) -> Path:
        return files.healthy(tower, own.bundle.manifest.towers[tower].precision)

    monkeypatch.setattr(Subject, "converted", converted)


@pytest.mark.once("edit")
@pytest.mark.parametrize(("tower", "precision", "edit"), cases(FAULTS, ALL))
def test_every_fault_fails(
    files: Files, tower: TowerName, precision: str, edit: Edit[PlantedOnnx], tmp_path: Path
) -> None:
    bundle, named = files.edited(tower, precision, edit, tmp_path)
    require_failed(files.check(tower, precision, bundle), named)


@pytest.mark.once("edit")
@pytest.mark.parametrize(("tower", "precision", "edit"), cases(HARMLESS, ALL))
def test_no_harmless_edit_does(
    files: Files, tower: TowerName, precision: str, edit: Edit[PlantedOnnx], tmp_path: Path
) -> None:
    bundle, _ = files.edited(tower, precision, edit, tmp_path)
    require_passed(files.check(tower, precision, bundle))


@pytest.mark.parametrize("edit", HARMLESS, ids=str)
def test_what_is_called_harmless_computes_the_same(files: Files, edit: Edit[PlantedOnnx], tmp_path: Path) -> None:
    bundle, _ = files.edited("text", "w4", edit, tmp_path)
    ids, target = files.subjects["w4"].evidence.reference.inputs.ids[:2], get_target("onnx")
    wanted = target.open(files.healthy("text", "w4")).runner()(ids)
    np.testing.assert_array_equal(target.open(bundle.artifact("text")).runner()(ids), wanted)


def test_bytes_at_random_are_read_or_refused(files: Files, tmp_path: Path) -> None:
    healthy = files.content[files.healthy("text", "w4")]
    random, refused = np.random.default_rng(0), 0
    for _ in range(60):
        data = bytearray(healthy)
        for at in random.integers(0, 20_000, size=3):
            data[at] = random.integers(256)
        (tmp_path / "damaged.onnx").write_bytes(data)
        try:
            assert get_target("onnx").open(tmp_path / "damaged.onnx").graph is not None
        except InvalidInput:
            refused += 1
    assert refused > 10
