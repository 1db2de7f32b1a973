"""Faults and harmless edits of Core ML packages at every precision, against the conversion that they were made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conversions import Store
from coreml_packages import shared_conversions
from faults.conftest import Healthy, restamped
from faults.faults import FAULTS, Fault, range_halved, range_widened
from faults.harmless import EDITS
from faults.kinds import conversions_read_once
from faults.planting import Planted
from writing import chosen, job_of

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets import get_target
from mobileclip_deploy.verify.activations import check_activations
from mobileclip_deploy.verify.graph import check_graph
from mobileclip_deploy.verify.reproduction import check_reproduced
from mobileclip_deploy.verify.subject import Subject
from mobileclip_deploy.verify.weights import check_weights

Judge = Callable[..., tuple[Check, Any]]

# What a package of each precision has in which a fault may lie: its deployment target decides the form of much of it.
SOFTMAX, AFFINE = {"softmax"}, {"softmax", "scale", "zero_point"}
PACKAGES: dict[tuple[str, str], set[str]] = {
    ("fp32", "iOS16"): SOFTMAX | {"float32"},
    ("fp16", "iOS16"): SOFTMAX,
    ("w8", "iOS16"): AFFINE,
    ("w8a8", "iOS17"): AFFINE | {"quantize"},
    ("w6p", "iOS16"): AFFINE | {"lut"},
    ("w4p", "iOS16"): AFFINE | {"lut"},
    ("w4p", "iOS18"): {"scale", "lut"},  # attention is one operation from here on
    ("w4p-p50", "iOS18"): {"scale", "lut"},
    ("w4", "iOS18"): {"scale"},
}
CASES = [
    pytest.param(package, fault, id=f"{'-'.join(package)}-{fault}")
    for package, kinds in PACKAGES.items()
    for fault in FAULTS
    if fault.needs is None or fault.needs in kinds
]


@pytest.fixture(scope="module")
def packages(half: Healthy, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Bundle]]:
    """The bundle of a precision and deployment target, converted when it is first asked for."""
    model = half.model
    bundles: dict[tuple[str, str], Bundle] = {}
    fresh: set[Path] = set()

    def bundle(package: tuple[str, str]) -> Bundle:
        if package not in bundles:
            precision, deployment_target = package
            entries = {}
            folder = tmp_path_factory.mktemp("-".join(package))
            with store.conversions(), shared_conversions():
                for tower, entry in half.bundle.manifest.towers.items():
                    job = job_of(model, tower, precision)
                    chosen("coreml", deployment_target=deployment_target).write(job, folder / entry.file)
                    entries[tower] = entry.model_copy(update={"precision": precision})
            options = {"deployment_target": deployment_target}
            manifest = half.bundle.manifest.model_copy(update={"towers": entries, "options": options})
            bundles[package] = restamped(Bundle(folder, manifest))
            fresh.update(map(bundles[package].artifact, TOWERS))
        return bundles[package]

    with conversions_read_once("coreml", fresh):
        yield bundle


@pytest.fixture(scope="module")
def own(half: Healthy) -> Subject:
    """With the checkpoint, folded once."""
    return half.subject(half.bundle)


@pytest.fixture
def judge(packages: Any, half: Healthy, own: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Plants an edit in a package, and gives what `reproduced` says of it, with what the edit itself says."""

    def judged(package: tuple[str, str], tower: TowerName, plant: Callable[[Planted], Any]) -> tuple[Check, Any]:
        healthy = packages(package)
        monkeypatch.setattr(Subject, "converted", lambda *_: healthy.artifact(tower))
        bundle, said = replace(half, bundle=healthy).edited(tower, tmp_path, plant)
        (check,) = check_reproduced(replace(own, bundle=bundle), tower)
        return check, said

    return judged


@pytest.mark.once("fault")
@pytest.mark.parametrize(("package", "fault"), CASES)
def test_a_fault_is_found_and_its_operation_named(judge: Judge, package: tuple[str, str], fault: Fault) -> None:
    check, operation = judge(package, fault.tower, fault.plant)
    assert (check.status, check.tower) == ("failed", fault.tower), check
    assert operation is None or repr(operation) in str(check.detail)


@pytest.mark.once("edit")
@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("package", PACKAGES, ids="-".join)
def test_what_says_the_same_in_other_words_passes(
    judge: Judge, package: tuple[str, str], edit: str, tower: TowerName
) -> None:
    check, _ = judge(package, tower, EDITS[edit])
    assert (check.status, check.detail) == ("passed", "the same operations and constants; other bytes")


@pytest.mark.parametrize(
    ("tower", "plant", "failed"),
    [
        ("image", None, []),
        ("text", None, []),
        ("image", range_halved, ["ranges"]),
        ("image", range_widened, ["activations"]),
    ],
)
def test_steps_of_activations_are_checked_without_a_conversion(
    packages: Any, half: Healthy, own: Subject, tower: TowerName, plant: Any, failed: list[str], tmp_path: Path
) -> None:
    bundle = packages(("w8a8", "iOS17"))
    if plant is not None:
        bundle, _ = replace(half, bundle=bundle).planted(tower, tmp_path, plant)
    edited = replace(own, bundle=bundle, matched={})
    (weights,) = check_weights(edited, tower)
    (graph,) = check_graph(edited, tower)
    checks = check_activations(edited, tower)
    assert weights.status == "passed", weights.detail
    assert graph.status == ("not run" if "activations" in failed else "passed")
    assert [check.step for check in checks if check.status == "failed"] == failed
    assert failed or [check.step for check in checks] == ["activations", "ranges"]


def test_every_precision_has_its_faults() -> None:
    assert {precision for precision, _ in PACKAGES} == set(get_target("coreml").abilities.precisions)
    for package in PACKAGES:
        kinds = {case.values[1].name for case in CASES if case.values[0] == package}
        assert len(kinds) >= 40, package
