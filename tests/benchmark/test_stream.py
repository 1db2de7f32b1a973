"""The stream of finished rounds: nothing that was finished is lost, nothing else counts."""

from pathlib import Path

import pytest
from benchmark import documents

from mobileclip_deploy.benchmark.assembly import assemble, complete
from mobileclip_deploy.benchmark.documents import append, outstanding, read_stream
from mobileclip_deploy.benchmark.result import CellResult, RoundResult
from mobileclip_deploy.errors import InvalidInput

JOB = documents.job()


def finished(cell: str, number: int, status: str = "done", samples: tuple[int, ...] = (5, 6, 7)) -> RoundResult:
    values = {"run_id": JOB.run_id, "cell": cell, "round": number, "status": status, "samples_ns": samples}
    values |= {"cpu_ns": 18 if samples else None, "golden": documents.GOLDEN if number == 0 and samples else None}
    return RoundResult.model_validate(values)


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    rounds = finished("onnx-image", 0), finished("executorch-image", 0), finished("onnx-image", 1)
    for item in rounds:
        append(tmp_path / "s", item)
    assert read_stream(tmp_path / "s", JOB) == rounds


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_a_line_that_was_cut_off_does_not_count_and_is_written_over(tmp_path: Path, cut: int) -> None:
    first, second = finished("onnx-image", 0), finished("onnx-image", 1)
    append(tmp_path / "s", first)
    append(tmp_path / "s", second)
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:-cut])
    assert read_stream(tmp_path / "s", JOB) == (first,)
    append(tmp_path / "s", second)
    assert read_stream(tmp_path / "s", JOB) == (first, second)


MANY = '{"x":[' + "0," * 4_000_001 + "0]}"


@pytest.mark.parametrize("line", ["{}", "nonsense", finished("onnx-image", 7).model_dump_json(), MANY])
def test_a_whole_line_that_is_no_round_of_the_run_is_refused_and_so_is_a_round_that_stands_twice(
    tmp_path: Path, line: str
) -> None:
    stream, once = tmp_path / "s", finished("onnx-image", 0).model_dump_json()
    for text, place in ((line, 1), (f"{once}\n{once}", 2)):
        stream.write_text(text + "\n", encoding="utf-8")
        with pytest.raises(InvalidInput, match=f"line {place}"):
            read_stream(stream, JOB)


@pytest.mark.parametrize(
    ("status", "samples", "again"),
    [("done", (5, 6, 7), [("executorch-image", 1)]), ("failed", (), []), ("invalid", (), [])],
)
def test_what_is_left_keeps_the_jobs_order_and_a_cell_that_failed_is_not_tried_again(
    status: str, samples: tuple[int, ...], again: list[tuple[str, int]]
) -> None:
    left = outstanding(JOB, (finished("executorch-image", 0, status, samples),))
    assert [(turn.cell, turn.round) for turn in left] == [("onnx-image", 0), ("onnx-image", 1), *again]


def cells(*rounds: RoundResult) -> dict[str, CellResult]:
    found = assemble(documents.sent().model_copy(update={"rounds": rounds}))
    return {cell.id: cell for cell in found.cells}


def test_a_cell_is_done_when_all_its_rounds_are_and_a_part_that_was_never_checked_has_no_figure() -> None:
    found = cells(
        finished("onnx-image", 1, samples=(50, 60, 70)), finished("onnx-image", 0), finished("executorch-image", 0)
    )
    done, part = found["onnx-image"], found["executorch-image"]
    assert (done.status, [item.round for item in done.rounds]) == ("done", [0, 1])
    assert (done.summary.samples, done.summary.median_ns, done.summary.cpu_ns) == (6, 28.5, 6)
    assert (part.status, part.error) == ("skipped", "1 of 2 rounds were run")
    unchecked = cells(finished("onnx-image", 1))["onnx-image"]
    assert (unchecked.status, unchecked.summary) == ("skipped", None)


def test_a_devices_own_summary_is_computed_again() -> None:
    honest = documents.result()
    summary = honest.cells[0].summary
    boast = honest.cells[0].model_copy(update={"summary": summary.model_copy(update={"median_ns": 1.0})})
    again = complete(honest.model_copy(update={"cells": (boast, honest.cells[1])}))
    assert again.cells[0].summary == summary
    assert again.cells[1] == honest.cells[1]
