"""Answers are compared here, by one function and by the whole bound that `verify` has; nothing else makes a figure."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark import documents

from mobileclip_deploy.benchmark.answers import judge
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.commands.tables import print_result
from mobileclip_deploy.benchmark.documents import read_result, read_stream, write_document
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.judgement import run_warnings
from mobileclip_deploy.benchmark.offline_jobs import save_expected
from mobileclip_deploy.benchmark.plan import Plan
from mobileclip_deploy.benchmark.report import report
from mobileclip_deploy.benchmark.report.points import device_name
from mobileclip_deploy.benchmark.result import RoundResult
from mobileclip_deploy.errors import InvalidInput

RIGHT = next(iter(documents.EXPECTED.values()))
RELATIVE = {"metric": "relative", "bound": 1e-4}
COSINE = {"metric": "cosine", "bound": 0.98, "snr_db": 10.0}
LABELS = {"metric": "probabilities", "bound": 0.1}
LIKELY = np.array([[0.7, 0.2, 0.1, 0], [0.1, 0.6, 0.2, 0.1]], np.float32)
PASSED = documents.GOLDEN


def job(gate: dict[str, Any], **changes: Any) -> Job:
    return documents.job(
        cells=[one.model_dump(mode="json") | {"gate": gate} | changes for one in documents.job().cells]
    )


def sent(answers: bytes | None, **changes: Any) -> RoundResult:
    """A round as it comes from a device: of the first cell, and with its own good opinion of itself."""
    values = {"run_id": documents.job().run_id, "cell": "onnx-image", "round": 0, "status": "done"}
    values |= {
        "samples_ns": [5_000_000, 6_000_000, 7_000_000],
        "golden": PASSED,
        "answers": None if answers is None else base64.b64encode(answers),
    }
    return RoundResult.model_validate(values | changes)


def raw(values: np.ndarray[Any, Any]) -> bytes:
    return values.astype("<f4").tobytes()


def changed(index: tuple[int, int], value: float) -> bytes:
    values = RIGHT.copy()
    values[index] = value
    return raw(values)


MISSED, ODD = "answers miss the gate ", "answers are not finite numbers"
LIES: dict[str, tuple[bytes | None, dict[str, Any], np.ndarray[Any, Any], str]] = {
    "none": (None, RELATIVE, RIGHT, "the device returned no answers to the golden inputs"),
    "empty": (b"", RELATIVE, RIGHT, "the device returned 0 bytes of answers to 2 golden inputs, expected 32"),
    "to one input of two": (raw(RIGHT[:1]), RELATIVE, RIGHT, "the device returned 16 bytes"),
    "to three inputs": (raw(np.vstack([RIGHT, RIGHT[:1]])), RELATIVE, RIGHT, "the device returned 48 bytes"),
    "half a number": (raw(RIGHT)[:-2], RELATIVE, RIGHT, "the device returned 30 bytes"),
    "zeros": (raw(0 * RIGHT), RELATIVE, RIGHT, MISSED + "relative <= 0.0001; relative 1.0e+00, cosine -1.0"),
    "zeros, by direction": (raw(0 * RIGHT), COSINE, RIGHT, MISSED + "cosine >= 0.98"),
    "not a number": (changed((1, 2), np.nan), RELATIVE, RIGHT, ODD),
    "infinity": (changed((0, 0), np.inf), COSINE, RIGHT, ODD),
    "beyond the gate": (raw(RIGHT * 1.0002), RELATIVE, RIGHT, MISSED + "relative <= 0.0001; relative 2.0e-04"),
    "of each other's inputs": (raw(RIGHT[::-1]), RELATIVE, RIGHT, MISSED),
    "of the first input, twice": (raw(RIGHT[[0, 0]]), COSINE, RIGHT, MISSED),
    "times 100": (raw(100 * RIGHT), COSINE, RIGHT, "lengths times 100"),
    "a quarter too short": (raw(0.75 * RIGHT), COSINE, RIGHT, "lengths times 0.75"),
    "with noise beside a large mean": (
        raw(np.array([[100.5, 100, 100, 100], [100, 100.5, 100, 100]])),
        COSINE,
        np.array([[100, 100.5, 100, 100], [100, 100, 100.5, 100]], np.float32),
        "SNR -",
    ),
    "labels swapped": (raw(LIKELY[:, [1, 0, 2, 3]]), LABELS, LIKELY, MISSED + "probabilities within 0.1; largest_diff"),
    "logits in place of probabilities": (raw(np.log(LIKELY + 1e-3)), LABELS, LIKELY, MISSED + "probabilities within"),
    "a probability that is no number": (raw(np.where(LIKELY > 0.5, np.nan, LIKELY)), LABELS, LIKELY, ODD),
}


@pytest.mark.parametrize("lie", LIES)
def test_no_device_is_believed(lie: str, tmp_path: Path) -> None:
    answers, gate, expected, reason = LIES[lie]
    plan = Plan(tmp_path, job(gate), expected=dict.fromkeys(documents.EXPECTED, expected))
    plan.keep(sent(answers))
    plan.keep(sent(None, round=1))  # the cell has ended
    (kept,) = read_stream(plan.stream, plan.job)
    assert (kept.status, kept.samples_ns, kept.answers) == ("invalid", (), None)
    assert reason in str(kept.error)
    assert kept.golden is None or not kept.golden.passed
    assert "onnx-image" not in {turn.cell for turn in plan.outstanding}
    cell = assemble(documents.sent().model_copy(update={"job": plan.job, "rounds": (kept,)})).cells[0]
    assert (cell.status, cell.summary) == ("invalid", None)


@pytest.mark.parametrize(
    ("gate", "expected", "answers"),
    [
        (RELATIVE, RIGHT, raw(RIGHT * 1.00005)),
        (COSINE, RIGHT, raw(1.05 * RIGHT)),
        (LABELS, LIKELY, raw(LIKELY + np.array([0.09, -0.09, 0, 0], np.float32))),
    ],
)
def test_right_answers_leave_their_figures_and_no_answers(
    gate: dict[str, Any], expected: np.ndarray[Any, Any], answers: bytes
) -> None:
    found = judge(sent(answers, golden=None), job(gate), dict.fromkeys(documents.EXPECTED, expected))
    assert (found.status, found.golden.passed, found.golden.inputs, found.answers) == ("done", True, 2, None)
    assert len(found.samples_ns) == 3


def test_as_many_answers_are_asked_for_as_the_protocol_says() -> None:
    asked = job(RELATIVE)
    asked = asked.model_copy(update={"protocol": asked.protocol.model_copy(update={"golden_inputs": 1})})
    for answers, status in ((raw(RIGHT[:1]), "done"), (raw(RIGHT), "invalid")):
        assert judge(sent(answers), asked, documents.EXPECTED).status == status


def test_a_competitor_that_misses_the_gate_is_noted_and_one_without_answers_is_invalid() -> None:
    asked = job(COSINE, competitor=True)
    noted = judge(sent(raw(-RIGHT)), asked, documents.EXPECTED)
    assert (noted.status, noted.golden.passed, len(noted.samples_ns)) == ("done", False, 3)
    assert "another network" in noted.warnings[0]
    odd = judge(sent(changed((1, 2), np.nan)), asked, documents.EXPECTED)
    assert odd.warnings == ("answers are not finite numbers (a fault of the runtime or the device)",)
    assert judge(sent(None), asked, documents.EXPECTED).status == "invalid"


@pytest.mark.parametrize("odd", [{"run_id": "another"}, {"cell": "another"}, {"round": 7}])
def test_rounds_that_were_not_asked_for_are_not_kept(odd: dict[str, Any], tmp_path: Path) -> None:
    plan = Plan(tmp_path, job(RELATIVE), expected=documents.EXPECTED)
    plan.keep(sent(raw(RIGHT), **odd))
    assert not plan.stream.exists()
    for samples in ([5], [1]):  # the second one is late
        plan.keep(sent(raw(RIGHT), samples_ns=samples))
    assert [item.samples_ns for item in read_stream(plan.stream, plan.job)] == [(5,)]


def test_words_of_a_device_are_one_line_each_and_not_too_many() -> None:
    found = judge(sent(None, status="failed", error="\x1b[2J\nx" * 500, warnings=["a\u202eb"] * 99), job(RELATIVE), {})
    assert (found.error[:6], len(found.error), found.warnings) == (" [2J x", 500, ("a b",) * 20)


def test_a_run_that_came_by_hand_is_compared_where_its_job_was_written_and_else_self_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    file, rounds = tmp_path / "phone.run.json", (sent(raw(RIGHT)), sent(None, round=1, golden=None))
    run = documents.sent().model_copy(update={"rounds": rounds})
    write_document(file, run)
    alone = read_result(file)
    assert alone.self_reported
    assert [(cell.status, cell.summary is None) for cell in alone.cells] == [("done", False), ("skipped", True)]
    print_result(alone)
    table = capsys.readouterr().out
    assert ("self-reported" in table, "passed" in table) == (True, False), table
    assert any(text.startswith("self-reported: ") for text in run_warnings(alone))
    assert device_name(alone) == "SIMULATED self-reported android: Pixel 0, Android 16"
    report(file, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("self-reported") >= 3  # of the device, the run and its answers
    save_expected(documents.job(), documents.EXPECTED)
    compared = read_result(file)
    assert (compared.self_reported, compared.cells[0].golden.passed) == (False, True)
    write_document(file, run.model_copy(update={"rounds": (sent(raw(-RIGHT)), rounds[1])}))
    assert read_result(file).cells[0].status == "invalid"
    write_document(file, run.model_copy(update={"job": job(COSINE)}))
    with pytest.raises(InvalidInput, match="ran another job than the one written here"):
        read_result(file)


def test_what_a_phone_of_earlier_versions_compared_itself_is_marked(tmp_path: Path) -> None:
    for kind, shown, marked in (("android", 2, True), ("android", 1, False), ("host", 2, False)):
        cells = [one.model_dump(mode="json") for one in documents.job().cells]
        for one in cells:
            one["golden"]["outputs"] = one["golden"]["inputs"] | {"file": "golden/outputs.bin", "shape": [shown, 4]}
            del one["gate"]["snr_db"]
        old = documents.result(job=documents.job(cells=cells).model_dump(mode="json"))
        device = old.device.model_copy(update={"kind": kind})
        write_document(tmp_path / "old.json", old.model_copy(update={"device": device}))
        assert read_result(tmp_path / "old.json").self_reported is marked


@pytest.mark.parametrize(
    ("samples", "changes", "said"),
    [
        ([1, 1, 1], {}, "impossible: a sample of 1 ns, where 0.0"),
        (
            [500, 90, 500],
            {"variant": None},
            "impossible: a sample of 90 ns, where a runtime call take at least 100",
        ),
        ([2_000_000] * 3, {}, None),
        ([150] * 3, {"variant": None}, None),
        ([150] * 3, {"compute_units": "all"}, None),  # beside the cores so little arithmetic takes less than a call
        ([150] * 3, {"compute_units": "cpuOnly"}, "impossible: a sample of 150 ns"),
    ],
)
def test_times_in_which_nothing_could_compute_this_are_remarked(
    samples: list[int],
    changes: dict[str, Any],
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    asked = job(RELATIVE, input={"name": "x", "dtype": "float32", "shape": [1, 3, 64, 64]}, **changes)
    rounds = tuple(
        judge(sent(raw(RIGHT), round=number, samples_ns=samples), asked, documents.EXPECTED) for number in range(2)
    )
    result = assemble(documents.sent().model_copy(update={"job": asked, "rounds": rounds}))
    found = [text for text in result.cells[0].warnings if text.startswith("impossible:")]
    assert [text[: len(said or "")] for text in found] == ([said] if said else [])
    print_result(result)
    assert ("impossible" in capsys.readouterr().out) == bool(said)
    assert any(text.startswith("impossible:") for text in run_warnings(result)) == bool(said)
