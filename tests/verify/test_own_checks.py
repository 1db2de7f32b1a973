"""A check of another package runs behind ours, is held to its gate, and is named where gates are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from command_line import run
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import DependencyMissing, NotRun, UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.gates import OwnBound, exported_gates, parse_gates
from mobileclip_deploy.verify.own_checks import OwnCheck
from mobileclip_deploy.verify.subject import Subject

PACKAGE = """
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.own_checks import OwnCheck

def length(subject, tower, bound):
    rows = subject.wanted(tower)
    status = "passed" if abs(rows).max() <= bound else "failed"
    return [Check(step="longest", tower=tower, status=status, gate=f"value <= {bound:g}", detail=f"of {len(rows)}")]

LONGEST = OwnCheck(run=length, bound=1e6)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a check, as pip would leave it."""
    described = tmp_path / "own_checks_of_mine-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: own-checks-of-mine\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[mobileclip_deploy.checks]\nlongest = own_checks_of_mine:LONGEST\n")
    (tmp_path / "own_checks_of_mine.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_checks_of_mine", raising=False)
    return tmp_path


@pytest.mark.usefixtures("installed")
def test_a_check_of_another_package_decides_too(exports: Exports) -> None:
    bundle = exports.bundle("onnx", "fp32")
    usual = mcd.verify(bundle, checkpoint=exports.checkpoint, thorough=False)
    found = [check for check in usual.checks if check.step == "longest"]
    assert [(check.tower, check.status, check.gate) for check in found] == [
        ("image", "passed", "value <= 1e+06"),
        ("text", "passed", "value <= 1e+06"),
    ]
    assert all(check.seconds is not None for check in found)
    strict = run(
        "verify", bundle.path, "--checkpoint", exports.checkpoint, "--checks", "quick", "--gate", "longest=1e-9"
    )
    assert strict.code == 1
    assert "value <= 1e-09" in strict.stdout


@pytest.mark.usefixtures("installed")
def test_its_gate_is_named_and_recorded() -> None:
    assert "From installed packages: longest." in " ".join(run("verify", "--help").stdout.split())
    gates = parse_gates(["longest=2", "task=1", "longest=3"])
    assert gates.own == (OwnBound("longest", 3.0),)
    assert gates.recorded() == "task=1.0,longest=3.0"
    assert exported_gates({"gates": "task=1.0,longest=3.0"}) == gates
    assert "longest=3 (not the default)" in gates.replaced([("fp32", None)])
    with pytest.raises(UsageError, match=r"with NAME one of semantic, relative, cosine, snr, task, longest$"):
        parse_gates(["longes=1"])


def test_a_check_that_cannot_be_loaded_is_said(installed: Path, exports: Exports) -> None:
    (installed / "own_checks_of_mine.py").write_text("LONGEST = 3")
    with pytest.raises(
        DependencyMissing, match=r"the check 'longest' \(own_checks_of_mine:LONGEST\) is not an OwnCheck"
    ):
        mcd.verify(exports.bundle("onnx", "fp32"), checkpoint=exports.checkpoint, thorough=False)


@pytest.mark.parametrize(
    ("raised", "status", "detail"),
    [
        (ValueError("shapes differ"), "failed", "the check itself failed: ValueError: shapes differ"),
        (NotRun("no camera is here"), "not run", "no camera is here"),
    ],
)
def test_a_check_that_raises_ends_no_export(raised: Exception, status: str, detail: str) -> None:
    def broken(subject: Subject, tower: TowerName, bound: float) -> Iterator[Check]:
        yield Check(step="longest", tower=tower, status="passed")
        raise raised

    first, last = OwnCheck(run=broken, bound=1.0).checks("longest", Mock(spec=Subject), "image", 1.0)
    assert first.status == "passed"
    assert (last.step, last.tower, last.status, last.detail) == ("longest", "image", status, detail)
