"""`verify` converts again: a fault that drowns in rounding at the gate of its precision is found all the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import Healthy, build
from faults.faults import FAULTS, Fault, attention_unscaled, epsilon, gelu_by_tanh, softmax_axis
from faults.planting import Planted
from faults.test_compressed_faults import next_table_entry

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.files import artifact_sha256
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.towers.samples import image_paths
from mobileclip_deploy.verify import reproduction, verification
from mobileclip_deploy.verify.explanation import explain_bundle
from mobileclip_deploy.verify.reproduction import check_reproduced
from mobileclip_deploy.verify.verification import verify_bundle


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Healthy:
    return build("fp16", tmp_path_factory.mktemp("fp16"))


@pytest.fixture(scope="module")
def palettized(tmp_path_factory: pytest.TempPathFactory) -> Healthy:
    return build("w6p", tmp_path_factory.mktemp("w6p"))


@pytest.fixture
def converted_once(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a conversion gives is what it gave before, as the first test shows: so it is not made forty times."""

    def use(healthy: Healthy) -> None:
        monkeypatch.setattr(reproduction, "convert_again", lambda _, tower, *__: healthy.bundle.artifact(tower))

    return use


@pytest.mark.parametrize("tower", TOWERS)
def test_a_package_is_reproduced_byte_for_byte(half: Healthy, tower: TowerName) -> None:
    check = check_reproduced(half.bundle, tower, half.model)
    assert (check.step, check.tower, check.status, check.detail) == ("reproduced", tower, "passed", "byte for byte")


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_every_fault_in_a_float16_package_fails(
    half: Healthy, converted_once: Any, fault: Fault, tmp_path: Path
) -> None:
    converted_once(half)
    bundle, operation = half.planted(fault.tower, tmp_path, fault.plant)
    check = check_reproduced(bundle, fault.tower, half.model)
    assert (check.tower, check.status) == (fault.tower, "failed")
    assert operation is None or repr(operation) in str(check.detail)


@pytest.mark.parametrize("plant", [gelu_by_tanh, attention_unscaled, epsilon, softmax_axis])
def test_so_does_one_in_a_palettized_package(
    palettized: Healthy, converted_once: Any, plant: Any, tmp_path: Path
) -> None:
    converted_once(palettized)
    bundle, operation = palettized.planted("text", tmp_path, plant)
    check = check_reproduced(bundle, "text", palettized.model)
    assert check.status == "failed"
    assert repr(operation) in str(check.detail)


def palettized_in(package: Planted, operation: Any) -> bool:
    """Whether the weight is a table and indices: the projection's, which keeps int8, is not."""
    return "lut" in package.producer(package.source(operation, "weight")).type


def test_and_one_in_its_indices(palettized: Healthy, converted_once: Any, tmp_path: Path) -> None:
    converted_once(palettized)

    def plant(package: Planted) -> str:
        linear = [op for op in package.block.operations if op.type == "linear"]
        name = package.name([op for op in linear if palettized_in(package, op)][-1])
        next_table_entry(package, name)
        return name

    bundle, operation = palettized.planted("text", tmp_path, plant)
    check = check_reproduced(bundle, "text", palettized.model)
    assert check.status == "failed"
    assert f"{operation!r}" in str(check.detail)
    assert "its weight is off" in str(check.detail)


def test_a_difference_is_not_judged_where_other_versions_wrote_the_package(
    half: Healthy, converted_once: Any, tmp_path: Path
) -> None:
    converted_once(half)
    bundle, _ = half.planted("text", tmp_path, epsilon)
    environment = bundle.manifest.environment | {"coremltools": "8.3"}
    older = replace(bundle, manifest=bundle.manifest.model_copy(update={"environment": environment}))
    check = check_reproduced(older, "text", half.model)
    assert check.status == "not run"
    assert "coremltools 8.3, here" in str(check.detail)


def test_a_package_calibrated_on_images_of_ones_own_needs_them(half: Healthy, tmp_path: Path) -> None:
    own = tmp_path / "like-mine"
    own.mkdir()
    shutil.copy(image_paths()[0], own)
    bundle = calibrated(half, own, tmp_path / "out")
    check = check_reproduced(bundle, "image", half.model)
    assert check.status == "not run"
    assert check.detail == "needs the images in 'like-mine' that it was calibrated on; give them with --calibration"
    with pytest.raises(UsageError, match="explaining the image tower needs the images"):
        explain_bundle(bundle, half.model, half.reference.inputs)
    with pytest.raises(InvalidInput, match="does not hold the images that nano-coreml-w8a8 was calibrated on"):
        check_reproduced(bundle, "image", half.model, image_paths()[0].parent)
    assert check_reproduced(bundle, "image", half.model, own).detail == "byte for byte"


def calibrated(healthy: Healthy, images: Path, output: Path) -> Bundle:
    from mobileclip_deploy.export.exporting import export_bundle
    from mobileclip_deploy.targets import ExportOptions, get_target

    options = ExportOptions(calibration=images)
    return export_bundle(
        healthy.model,
        get_target("coreml"),
        {"image": "w8a8"},
        output,
        towers=("image",),
        options=options,
        verify=False,
        reference=healthy.reference,
    ).bundle


def test_the_check_is_one_of_those_of_verify_and_needs_the_checkpoint(
    half: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("check_structure", "check_semantic", "check_shipped"):
        monkeypatch.setattr(verification, name, lambda *_: [])
    monkeypatch.setattr(verification, "check_structure", lambda *_: Check.not_run("structure", "", ""))
    monkeypatch.setattr(
        verification,
        "check_reproduced",
        lambda _, tower, *__: Check.not_run("reproduced", tower, "x"),
    )

    def steps(model: Any, **options: Any) -> list[str]:
        report = verify_bundle(half.bundle, half.reference, model, None, **options)  # type: ignore[arg-type]
        return [check.step for check in report.checks if check.step == "reproduced"]

    assert steps(half.model) == ["reproduced"] * 2
    assert steps(None) == ["reproduced"] * 2
    assert steps(half.model, reproduce=False) == []


def test_the_fixture_bundle_is_as_it_was_exported(half: Healthy) -> None:
    for tower, entry in half.bundle.manifest.towers.items():
        assert artifact_sha256(half.bundle.artifact(tower)) == entry.sha256
