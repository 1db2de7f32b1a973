"""`verify` converts again: a fault that drowns in rounding at the gate of its precision is found all the same."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import Healthy
from faults.coreml_edits import epsilon
from writing import written

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.files import artifact_sha256
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.variants import TOWERS, TowerName
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.verify import chain
from mobileclip_deploy.verify.chain import verify_subject
from mobileclip_deploy.verify.checks.reproduced import check_reproduced
from mobileclip_deploy.verify.reports.explanation import explain_subject
from mobileclip_deploy.verify.subject import Subject, TowerProof, WrittenSubject

pytestmark = pytest.mark.converts


@pytest.fixture
def converted_once(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a conversion gives is what it gave before, as the first test shows: so it is not made again."""

    def use(healthy: Healthy) -> None:
        monkeypatch.setattr(TowerProof, "convert", lambda tower: healthy.bundle.artifact(tower.name))

    return use


@pytest.mark.parametrize("tower", TOWERS)
def test_a_package_is_reproduced_byte_for_byte(half: Healthy, tower: TowerName) -> None:
    (check,) = check_reproduced(half.subject(half.bundle).towers[tower])
    assert (check.step, check.tower, check.status, check.detail) == ("reproduced", tower, "passed", "byte for byte")


def test_a_difference_is_not_judged_where_other_versions_wrote_the_package(
    half: Healthy, converted_once: Any, tmp_path: Path
) -> None:
    converted_once(half)
    bundle, _ = half.planted("text", tmp_path, epsilon)
    environment = bundle.manifest.environment | {"coremltools": "8.3"}
    older = replace(bundle, manifest=bundle.manifest.model_copy(update={"environment": environment}))
    (check,) = check_reproduced(half.subject(older).towers["text"])
    assert check.status == "not run"
    assert "coremltools 8.3, here" in str(check.detail)


@pytest.mark.slow  # the built-in ones, above
def test_a_package_calibrated_on_images_of_ones_own_needs_them(half: Healthy, tmp_path: Path) -> None:
    own = tmp_path / "like-mine"
    own.mkdir()
    shutil.copy(image_paths()[0], own)
    bundle = calibrated(half, own, tmp_path / "out")
    (check,) = check_reproduced(half.subject(bundle).towers["image"])
    assert check.status == "not run"
    assert check.detail == "needs the images in 'like-mine' that it was calibrated on; give them with `calibration`"
    with pytest.raises(UsageError, match="explaining the image tower needs the images"):
        explain_subject(half.subject(bundle))
    with pytest.raises(InvalidInput, match="does not contain the images that nano-coreml-w8a8 was calibrated on"):
        check_reproduced(half.subject(bundle, calibration=image_paths()[0].parent).towers["image"])
    (check,) = check_reproduced(half.subject(bundle, calibration=own).towers["image"])
    assert check.detail == "byte for byte"


def calibrated(healthy: Healthy, images: Path, output: Path) -> Bundle:
    plan = {"calibration": images, "verify": False}
    return written(healthy.model, get_target("coreml"), {"image": "w8a8"}, output, healthy.reference, **plan).bundle


def test_the_check_is_one_of_those_of_verify_and_needs_the_checkpoint(
    half: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "TOWER_CHECKS", [check for check in chain.TOWER_CHECKS if check[0] is check_reproduced])
    monkeypatch.setattr(TowerProof, "convert", lambda tower: tower.subject.bundle.artifact(tower.name))

    def statuses(own: Subject) -> list[tuple[str, str]]:
        found = [(check.step, check.status) for check in verify_subject(own).checks]
        return [pair for pair in found if pair[0] == "reproduced"]

    assert statuses(half.subject(half.bundle)) == [("reproduced", "passed")] * 2
    assert statuses(replace(half.subject(half.bundle), source=None)) == [("reproduced", "not run")] * 2
    own = half.subject(half.bundle)
    assert statuses(WrittenSubject(own.bundle, own.evidence, own.gates, own.folder, source=own.source)) == []


def test_the_fixture_bundle_is_as_it_was_exported(half: Healthy) -> None:
    for tower, entry in half.bundle.manifest.towers.items():
        assert artifact_sha256(half.bundle.artifact(tower)) == entry.sha256
