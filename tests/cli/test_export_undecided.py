"""An export whose accuracy cannot be told from chance: it is written, and the exit code says so."""

from pathlib import Path

import pytest
from command_line import run
from exports import Exports

from mobileclip_deploy.export import steps
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.parity.report import Lost
from mobileclip_deploy.verify.subject import Subject


def test_an_undecided_bundle_is_written_and_the_exit_code_says_so(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Lost(points=0.3, error=0.5, lost=40, won=10, examples=2000, looks=5)
    detail = "top1 drops by what cannot be told"
    figures = {"top1": 68.0, "top1_drop": 0.2}
    task = Check(
        step="task",
        tower="both",
        status="undecided",
        figures=figures,
        losses={"top1": lost},
        divergence=0.01,
        detail=detail,
    )

    def verified(own: Subject) -> ParityReport:
        return ParityReport(bundle=own.name, variant="nano", target="onnx", checks=(task,))

    monkeypatch.setattr(steps, "verify_subject", verified)
    path = tmp_path / "nano-onnx-fp16"
    found = run("export", "--checkpoint", exports.checkpoint, "--target", "onnx", "-o", tmp_path)
    assert found.code == 4
    assert "68.0 (drop +0.30 \N{PLUS-MINUS SIGN} 0.50)" in found.stdout
    assert f"nano-onnx-fp16: {detail}" in found.stdout
    assert found.stderr.splitlines()[-1] == f"Written, but undecided: nano-onnx-fp16: {detail}."
    assert "**UNDECIDED**" in (path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert run("inspect", path, "--json").json["parity"] == "undecided"


@pytest.mark.slow
def test_a_quick_verification_leaves_undecided_what_is_recorded_so(tmp_path: Path) -> None:
    exported = run(*("export", "--target", "onnx", "--gate", "task=0.05", "-o", tmp_path))
    assert exported.code == 4, exported.stderr
    path, lock = tmp_path / "nano-onnx-fp16", tmp_path / "lock.json"
    words = ("verify", path, "--checks", "quick", "--baseline", lock, "--accept")
    refused = run(*words)
    assert (refused.code, lock.exists()) == (4, False), refused.stderr
    assert "Passed" not in refused.stderr
    accepted = run(*words, "--accept-undecided")
    assert (accepted.code, lock.exists()) == (4, True), accepted.stderr
    assert f"Accepted: the figures of nano-onnx-fp16 are in {lock}." in accepted.stderr
