"""Several bundles at once: each is checked, whatever becomes of the others."""

import json
from pathlib import Path
from typing import Any, cast
from unittest import mock
from xml.etree import ElementTree

import pytest
from command_line import refusal, run, strict_json
from exports import Exports

import mobileclip_deploy as mcd
from mobileclip_deploy import errors
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.parity import Check, ParityReport
from mobileclip_deploy.parity.report import Lost
from mobileclip_deploy.verify import chain, door
from mobileclip_deploy.verify.reports import several


@pytest.fixture
def lacking(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle away from its checkpoint: most checks cannot be run."""
    monkeypatch.chdir(tmp_path)
    return exports.copy("onnx", "fp16", tmp_path)


@pytest.mark.slow
def test_the_exit_code_is_the_worst_and_each_has_its_suite(exports: Exports, lacking: Path, tmp_path: Path) -> None:
    good = exports.bundle("onnx", "fp16").path
    damaged = exports.copy("onnx", "fp32", tmp_path)
    (damaged / "onnx" / "text_model.onnx").write_bytes(b"cut")
    junit, markdown = tmp_path / "j.xml", tmp_path / "m.md"
    report = ["--junit", junit, "--markdown", markdown, "--checks", "quick"]
    found = run("verify", lacking, damaged, good, *report, "--json", "--quiet")
    assert found.code == 2
    first, second, third = found.json["bundles"]
    assert [one["passed"] for one in (first, second, third)] == [False, False, True]
    assert second["error"]["kind"] == "invalid_input"
    *notes, error = found.stderr.splitlines()
    assert notes[-2].startswith("nano-onnx-fp16: Passed: all ")
    assert notes[-1].startswith("nano-onnx-fp16: Not proven: ")
    told = strict_json(error)["error"]
    assert (told["kind"], told["exit_code"]) == ("invalid_input", 2)
    assert told["message"].startswith(f"2 of 3 bundles did not pass: nano-onnx-fp32 ({damaged}: ")
    root = ElementTree.parse(junit).getroot()
    assert (root.tag, [suite.get("errors") for suite in root]) == ("testsuites", [str(len(unrun(first))), "1", "0"])
    assert all(float(suite.get("time") or -1) > 0 for suite in (root[0], root[2]))
    assert all(float(case.get("time") or -1) >= 0 for case in root[2].iter("testcase"))
    assert sum(float(case.get("time") or 0) for case in root[2].iter("testcase")) <= float(root[2].get("time") or 0)
    assert [line for line in markdown.read_text(encoding="utf-8").splitlines() if line.startswith("### ")] == [
        "### nano-onnx-fp16: parity not run",
        "### nano-onnx-fp32: could not be verified",
        "### nano-onnx-fp16: parity passed",
    ]
    assert run("verify", lacking, good, "--checks", "quick").code == 3


def unrun(report: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    return [check for check in report["checks"] if check["status"] == "not run" and not check.get("left_out")]


def test_python_takes_a_list_and_gives_a_report_of_each(exports: Exports) -> None:
    bundle = exports.bundle("onnx", "fp16")
    with mock.patch.object(door, "verify_bundle", lambda request, **_: mock.Mock(report=request.bundle)):
        assert mcd.verify([bundle, bundle.path]) == (bundle, bundle.path)
        assert mcd.verify((bundle,)) == (bundle,)
        assert mcd.verify(bundle) == bundle
    with pytest.raises(UsageError, match="no bundle was given"):
        mcd.verify([])


def test_the_document_of_one_bundle_is_its_report(exports: Exports) -> None:
    found = run("verify", exports.bundle("onnx", "fp16").path, "--checks", "quick", "--json").json
    assert (found["bundle"], found["schema_version"], found["passed"]) == ("nano-onnx-fp16", 1, True)
    assert found["seconds"] > 0


def test_refused_is_worse_than_failed_and_failed_than_not_run() -> None:
    failures: list[errors.MobileClipDeployError] = [
        errors.Undecided("too few"),
        errors.NotRun("no runtime"),
        errors.GateFailed("far"),
        errors.InvalidInput("damaged"),
    ]
    while failures:
        found = several.worst([several.Refused(Path(one.kind), one) for one in (*failures, errors.Undecided("here"))])
        assert found.exit_code == max(failures, key=lambda one: (4, 3, 1, 2).index(one.exit_code)).exit_code
        failures.pop()


@pytest.mark.parametrize(
    ("lost", "reason"),
    [(0, "no prediction changed, but so few pictures cannot exclude a loss"), (2, "too few pictures to tell a loss")],
)
def test_an_undecided_report_says_if_anything_changed(lost: int, reason: str) -> None:
    figure = Lost(points=0, error=3, lost=lost, won=lost, examples=72, looks=1)
    check = Check(step="task", tower="both", status="undecided", losses={"top1": figure})
    report = ParityReport(bundle="b", variant="nano", target="onnx", checks=(check,))
    failure = several.Verified(cast(Any, mock.Mock()), report, None, 0.0).failure
    assert isinstance(failure, errors.Undecided)
    assert str(failure).startswith(f"UNDECIDED: {reason}")


def test_what_did_not_pass_is_not_accepted(tmp_path: Path) -> None:
    check = Check(step="shipped", tower="image", status="failed")
    report = ParityReport(bundle="b", variant="nano", target="onnx", checks=(check,))
    bundle = cast(Any, mock.MagicMock(manifest=mock.MagicMock(checkpoint=mock.Mock(sha256="0" * 64, weights=None))))
    assert several.Baseline(tmp_path / "parity.lock.json", accept=True).judged(bundle, report) == report
    assert list(tmp_path.iterdir()) == []


def test_the_summary_of_a_step_is_appended_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    refused = several.Refused(tmp_path / "bundle", errors.InvalidInput("damaged"))
    monkeypatch.setattr(several, "verify_bundles", lambda *_, **__: [refused])
    monkeypatch.setattr(mcd.Bundle, "open_unchecked", lambda _: None)
    assert run("verify", tmp_path / "bundle").code == 2
    told = summary.read_text(encoding="utf-8")
    assert told.startswith("before\n### bundle: could not be verified\n\ndamaged\n")


def test_a_bundle_that_the_lock_file_does_not_know_is_refused_before_it_is_verified(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "verify_subject", mock.Mock(side_effect=AssertionError("it was verified")))
    lock = tmp_path / "parity.lock.json"
    bundle = exports.bundle("onnx", "fp16").path
    for bundles, why in (
        ({}, "has no bundle"),
        ({bundle.name: {"checkpoint_sha256": "0" * 64, "checks": {}, "bytes": {}}}, "from another checkpoint"),
    ):
        lock.write_text(json.dumps({"bundles": bundles}), encoding="utf-8")
        assert why in refusal(run("--quiet", "verify", bundle, "--baseline", lock))
