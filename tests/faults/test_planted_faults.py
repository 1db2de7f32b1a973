"""A fault planted in a written package fails `verify`, which names the tower, and is found by --explain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from faults.conftest import Healthy, followed
from faults.faults import FAULTS, Fault

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.mil import load
from mobileclip_deploy.model.variants import TOWERS, TowerName
from mobileclip_deploy.verify.program_comparison import compare_programs

pytestmark = pytest.mark.usefixtures("stored_conversions")


@pytest.mark.parametrize("tower", TOWERS)
def test_a_healthy_package_passes_and_needs_no_explanation(healthy: Healthy, tower: TowerName, tmp_path: Path) -> None:
    bundle, _ = healthy.planted(tower, tmp_path, lambda package: None)
    checks = healthy.checks(bundle, tower)
    assert [check.status for check in checks] == ["passed"] * len(checks), checks
    found = compare_programs(tower, followed(bundle, tower), healthy.programs[tower], healthy.feeds(tower))
    assert found.finding == "none"


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_caught_and_explained(healthy: Healthy, fault: Fault, tmp_path: Path) -> None:
    bundle, operation = healthy.planted(fault.tower, tmp_path, fault.plant)
    failed = [check for check in healthy.checks(bundle, fault.tower) if check.status == "failed"]
    assert failed
    assert {check.tower for check in failed} == {fault.tower}
    if fault.unreadable:
        with pytest.raises(InvalidInput, match=re.escape(failed[0].detail or "")):
            load(bundle.artifact(fault.tower))
        return
    written, fresh = followed(bundle, fault.tower), healthy.programs[fault.tower]
    found = compare_programs(fault.tower, written, fresh, healthy.feeds(fault.tower))
    assert operation is None or repr(operation) in found.where(), found
    assert found.finding == ("operation" if operation else "interface")
    assert found.describe().startswith(f"{fault.tower} tower: ")


def test_enough_faults_are_planted() -> None:
    assert len(FAULTS) >= 20
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)
