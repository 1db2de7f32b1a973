"""The report: passed only when everything was run and passed; readable as JSON and as JUnit XML."""

from typing import Any

import pytest
from command_line import strict_json

from mobileclip_deploy.parity import Bound, Check, Deviation, Gates, ParityReport
from mobileclip_deploy.parity.metrics import compare
from mobileclip_deploy.verify.reports.several import Verified

EXACT = Gates().exact(None)
GOOD = Check.measured("twin", "image", Deviation(relative=1e-7, cosine=1.0, snr_db=None, inputs=2), EXACT, "torch")
BAD = Check.measured("twin", "text", compare([[1.0, 0.0]], [[float("nan"), 0.0]]), EXACT, "torch")
NOT_RUN = Check.not_run("shipped", "image", 'needs <macOS> & "Core ML"')


def report(*checks: Check) -> ParityReport:
    return ParityReport(bundle="a&b", variant="nano", target="onnx", checks=checks)


def test_it_passes_where_there_are_checks_and_every_one_was_run_and_passed() -> None:
    assert report(GOOD, GOOD).passed
    assert not report().passed
    failed, unrun = report(GOOD, BAD), report(GOOD, NOT_RUN)
    assert (failed.passed, failed.failed) == (False, (BAD,))
    assert (unrun.passed, unrun.failed, unrun.not_run) == (False, (), (NOT_RUN,))


def test_a_measured_check_says_its_gate() -> None:
    assert (GOOD.status, GOOD.gate) == ("passed", "relative <= 1e-05")
    shipped = Check.measured(
        "shipped", "image", Deviation(relative=1, cosine=0.9, snr_db=1.0, inputs=1), Bound("cosine", 0.95), "x"
    )
    assert (shipped.status, shipped.gate) == ("failed", "cosine >= 0.95")


def test_junit_counts_failures_and_takes_what_was_not_run_for_an_error() -> None:
    suite = report(GOOD, BAD, NOT_RUN).suite()
    assert (suite.tag, suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("testsuite", "3", "1", "1")
    good, bad, not_run = suite.findall("testcase")
    assert (good.get("name"), good.find("failure"), good.find("error")) == ("image twin", None, None)
    assert bad.find("failure") is not None
    error = not_run.find("error")
    assert error.get("message") == 'needs <macOS> & "Core ML"'


def test_json_is_strict_even_where_a_figure_is_infinite_and_reads_back() -> None:
    text = report(GOOD, BAD, NOT_RUN).model_dump_json()
    assert [check["status"] for check in strict_json(text)["checks"]] == ["passed", "failed", "not run"]
    assert ParityReport.model_validate_json(text) == report(GOOD, BAD, NOT_RUN)


@pytest.mark.parametrize(
    ("checks", "failure"), [((GOOD,), None), ((BAD,), "FAILED: 1 of 1 checks"), ((NOT_RUN,), "NOT RUN: 1 of 1 checks")]
)
def test_every_verdict_names_gates_that_are_not_the_defaults(checks: tuple[Check, ...], failure: str | None) -> None:
    told = "by gates of its own: cosine=0.5 (loosened)"
    own = report(*checks).model_copy(update={"gates": ("cosine=0.5 (loosened)",)})
    nowhere: Any = None
    verified = Verified(nowhere, own, None, 1.0)
    assert told in own.markdown().splitlines()[0]
    assert verified.as_dict()["gates"] == ["cosine=0.5 (loosened)"]
    (gates,) = own.suite().iter("property")
    assert (gates.get("name"), gates.get("value")) == ("gates", "cosine=0.5 (loosened)")
    if failure is None:
        assert verified.failure is None
        assert told in own.by
    else:
        assert str(verified.failure).startswith(f"{failure}, {told}")
    assert "by gates" not in report(*checks).markdown()
    assert not [*report(*checks).suite().iter("property")]


def test_what_was_not_proven_is_listed_by_reason() -> None:
    lacking = [Check.not_run(step, tower, "needs the checkpoint") for tower in ("image", "text") for step in ("a", "b")]
    checks = (
        *lacking,
        Check.not_wanted("twin", "image"),
        Check.not_run("shipped", "text", "no runtime"),
        Check(step="task", tower="both", status="undecided"),
        Check(step="weights", tower="text", status="passed"),
    )
    report = ParityReport(bundle="b", variant="v", target="t", checks=checks)
    assert [one.describe() for one in report.unproven] == [
        "image twin (left out of the quick checks)",
        "a, b (needs the checkpoint)",
        "text shipped (no runtime)",
        "task (undecided: too few pictures)",
    ]
    assert ParityReport(bundle="b", variant="v", target="t", checks=checks[-1:]).unproven == ()
