"""Jobs and results: what is published is what is read, and nothing else is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from benchmark import documents
from json_files import put

from mobileclip_deploy.benchmark.documents import read_job, read_result, write_document
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.result import Result
from mobileclip_deploy.errors import InvalidInput

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas"


def test_a_result_comes_back_as_it_was_and_what_a_device_sent_is_read_as_one(tmp_path: Path) -> None:
    wanted = documents.result()
    write_document(tmp_path / "result.json", wanted)
    assert read_result(tmp_path / "result.json") == wanted
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]
    write_document(tmp_path / "phone.run.json", documents.sent())
    (measured, missing) = read_result(tmp_path / "phone.run.json").cells
    assert measured.summary == documents.result().cells[0].summary
    assert (missing.status, missing.error) == ("skipped", "0 of 2 rounds were run")


def test_a_result_must_be_the_answer_to_its_job(tmp_path: Path) -> None:
    sent = documents.sent()
    write_document(tmp_path / "r.json", sent.model_copy(update={"rounds": (*sent.rounds, sent.rounds[0])}))
    with pytest.raises(InvalidInput, match="rounds differ from the job's"):
        read_result(tmp_path / "r.json")
    other = documents.job(run_id="another-run")
    with pytest.raises(ValueError, match="run_id differs from the job's"):
        documents.result(job=other.model_dump(mode="json"))


def test_a_nullable_field_may_be_left_out_and_the_order_may_be_any_order(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(documents.job().model_dump_json(exclude_none=True), encoding="utf-8")
    assert read_job(file) == documents.job()
    order = tuple(reversed(documents.job().order))
    assert Job.model_validate(documents.job().model_dump() | {"order": order}).order == order


def changed(*path: str | int, to: Any) -> str:
    """The small job as text, with one value replaced or added."""
    whole = documents.job().model_dump(mode="json")
    put(whole, path, to)
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "invalid JSON, at line 1, column 1"),
        (changed("schema_version", to=2), "schema_version"),
        (changed("surprise", to=1), "surprise"),
        (changed("seed", to=2**53), "seed"),
        (changed("seed", to="11"), "seed"),
        (changed("seed", to=True), "seed"),
        (changed("cells", 0, "file", to="../secret"), "cells.0.file"),
        (changed("cells", 0, "file", to="/etc/passwd"), "cells.0.file"),
        (changed("cells", 0, "id", to="a; rm -rf"), "cells.0.id"),
        (changed("cells", 1, "id", to="onnx-image"), "same id"),
        (changed("cells", 0, "gate", to=None), "golden and gate come together"),
        (changed("order", to=[]), "every round of every cell once"),
    ],
)
def test_what_is_no_job_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "job.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=complaint) as caught:
        read_job(file)
    assert str(caught.value).startswith(f"{file} is no benchmark job of schema version 1: ")


def test_no_result_has_power_but_a_mac_s() -> None:
    fields = {*re.findall(r'"(\w+)": \{', json.dumps(Result.model_json_schema()))}
    power = {name for name in fields if re.search(r"power|energy|watt|joule", name)}
    units = {f"{unit}_milliwatts" for unit in ("cpu", "gpu", "neural_engine")}
    assert power == {"power", "low_power_mode", *units}
