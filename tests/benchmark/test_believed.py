"""A stored result is believed in nothing that follows from its rounds, its figures and its job."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark import documents
from json_files import put

from mobileclip_deploy.benchmark.assembly import complete
from mobileclip_deploy.benchmark.documents import read_result
from mobileclip_deploy.benchmark.report.table import columns, rows
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import InvalidInput

CELL = ("cells", 0)
GATE = ("job", "cells", 0, "gate")
VERDICTS = (*CELL, "rounds", 0, "golden")
LABELS = {"metric": "probabilities", "bound": 1e-3}
WRONG: dict[str, list[tuple[tuple[str | int, ...], Any]]] = {
    "a cosine that contradicts the deviation": [((*VERDICTS, "cosine"), 0.1)],
    "a deviation beyond the gate": [((*VERDICTS, "relative"), 2e-4)],
    "no finite deviation": [((*VERDICTS, "relative"), None)],
    "fewer inputs than were sent": [((*VERDICTS, "inputs"), 1)],
    "no inputs": [((*VERDICTS, "inputs"), 0)],
    "a cosine below the gate": [(GATE, {"metric": "cosine", "bound": 0.999}), ((*VERDICTS, "cosine"), 0.998)],
    "probabilities that are further off": [(GATE, LABELS), ((*VERDICTS, "relative"), 5e-3)],
    "the cell as a whole": [((*CELL, "golden"), documents.GOLDEN | {"cosine": 0.1, "passed": False})],
}


def edited(path: Path, *changes: tuple[tuple[str | int, ...], Any]) -> Result:
    document = documents.result().model_dump(mode="json")
    for place, value in changes:
        put(document, place, value)
    path.write_text(json.dumps(document), encoding="utf-8")
    return complete(read_result(path))


def shown(result: Result) -> dict[str, str]:
    return {name: field.text for name, field in zip(columns(result), rows(result)[0], strict=True)}


@pytest.mark.parametrize("lie", WRONG)
def test_a_verdict_that_its_figures_contradict_is_wrong(lie: str, tmp_path: Path) -> None:
    found = edited(tmp_path / "r.json", *WRONG[lie])
    assert (found.cells[0].status, found.cells[0].summary) == ("invalid", None)
    assert shown(found)["answers"].startswith("WRONG")


def test_a_faked_summary_is_computed_from_the_samples(tmp_path: Path) -> None:
    found = edited(tmp_path / "r.json", ((*CELL, "summary", "median_ns"), 5.0))
    assert found.cells[0].summary == documents.result().cells[0].summary


def test_a_fast_round_with_more_samples_counts_once_in_the_median_of_rounds(tmp_path: Path) -> None:
    samples = ([10**6] * 400, [2 * 10**6] * 20)
    changes = [((*CELL, "rounds", number, "samples_ns"), one) for number, one in enumerate(samples)]
    row = shown(edited(tmp_path / "r.json", *changes))
    assert (float(row["median, ms"]), float(row["median of rounds, ms"])) == (1, 1.5)


@pytest.mark.parametrize("changes", [{}, {"summary": None}, {"status": "skipped"}])
def test_figures_without_rounds_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cell onnx-image: figures without their rounds"):
        edited(tmp_path / "r.json", *(((*CELL, name), value) for name, value in ({"rounds": []} | changes).items()))


def test_a_verdict_that_nothing_can_be_computed_from_is_self_reported(tmp_path: Path) -> None:
    assert (
        shown(edited(tmp_path / "r.json", (GATE, None), ((*GATE[:-1], "golden"), None)))["answers"] == "self-reported"
    )


def test_a_competitor_is_never_called_right(tmp_path: Path) -> None:
    found = edited(tmp_path / "r.json", (("job", "cells", 0, "competitor"), True), ((*VERDICTS, "cosine"), 1.0))
    assert shown(found)["answers"] == "cosine 1.000000 over 2"


def test_what_is_consistent_is_right(tmp_path: Path) -> None:
    for changes in ([], [(GATE, LABELS)], [(GATE, {"metric": "cosine", "bound": 0.999, "snr_db": 10.0})]):
        assert shown(edited(tmp_path / "r.json", *changes))["answers"].startswith("right")
