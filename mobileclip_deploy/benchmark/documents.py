"""Jobs and results as files: read, checked, written whole or not at all; their JSON Schemas; and the stream of finished
rounds: appended line by line to the disk, read back after whatever happened."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mobileclip_deploy.base.files import check_items, read_regular, write_whole
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.job import Job, Turn
from mobileclip_deploy.benchmark.result import Result, RoundResult, Run
from mobileclip_deploy.errors import WHY, InvalidInput, first_problem, refusing

Document = TypeVar("Document", bound=BaseModel)
DOCUMENT_BYTES, DOCUMENT_NAMES = 256 << 20, 200_000
DOCUMENT_ITEMS = 4_000_000
"""Each takes 180 bytes while it is read. Ten rounds of two seconds bring 200,000 samples of 0.1 ms."""
ALONE = ("android", "ios", "mac")
"""Devices that compared their answers themselves in earlier versions."""
SCHEMAS: dict[str, type[BaseModel]] = {
    "benchmark-job.json": Job,
    "benchmark-run.json": Run,
    "benchmark-result.json": Result,
}


def read_job(path: Path) -> Job:
    """Read a job.

    Raises:
        InvalidInput: missing, or not a job of this schema version.
    """
    return parse_document(_text(path), Job, str(path))


def read_result(path: Path) -> Result:
    """Read a result, or what a device sent (`Run`), whose figures are then computed.

    Raises:
        InvalidInput: missing, or not a result of this schema version.
    """
    text = _text(path)
    try:
        found = _validated(text, Result, str(path))
    except ValidationError as error:
        # Of what a device sent, rounds stand at the top; in a result, in its cells.
        if not any(one["loc"] == ("rounds",) for one in error.errors(include_url=False, include_input=False)):
            raise _refused(error, Result, str(path)) from error
    else:
        golden = [cell.golden for cell in found.job.cells if cell.golden]
        told = any(one.outputs and one.outputs.shape[0] == one.inputs.shape[0] for one in golden)  # by 0.3 and before
        return found.model_copy(update={"self_reported": found.self_reported or (told and found.device.kind in ALONE)})
    from mobileclip_deploy.benchmark.handed_out import compared

    run = parse_document(text, Run, str(path))
    judged = compared(run)
    return assemble(judged or run, self_reported=judged is None)


def write_document(path: Path, document: BaseModel) -> None:
    """Write as JSON, nulls included, flushed to the disk and renamed into place.

    Raises:
        InvalidInput: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, document.model_dump_json() + "\n")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; choose another place or make room") from error


def schema_text(model: type[BaseModel]) -> str:
    """The JSON Schema (2020-12) as it is published."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | model.model_json_schema()
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def parse_document(text: str, model: type[Document], name: str) -> Document:
    """Read JSON text; `name` is where it came from. Strict, as the schema is: "1" and true are no numbers.

    Raises:
        InvalidInput: not JSON, or not such a document; says which field.
    """
    try:
        return _validated(text, model, name)
    except ValidationError as error:
        raise _refused(error, model, name) from error


def _validated(text: str, model: type[Document], name: str) -> Document:
    check_items(name, text, DOCUMENT_ITEMS)
    return parse_model(model, text, strict=True)


def _refused(error: ValidationError, model: type[BaseModel], name: str) -> InvalidInput:
    kind = model.__name__.lower()
    return InvalidInput(f"{name} is no benchmark {kind} of schema version 1: {first_problem(error)}")


def _text(path: Path) -> str:
    with refusing(f"{path} cannot be read", OSError, UnicodeDecodeError):
        text = read_regular(path, DOCUMENT_BYTES).decode("utf-8")

    # Samples come without names. A million names that are no fields would be a million complaints of pydantic.
    if text.count(":") > DOCUMENT_NAMES:
        raise InvalidInput(f"{path} holds more fields than a result can")
    return text


def append(path: Path, finished: RoundResult) -> None:
    """Append one line, on the disk before this returns; what an interruption left of a line is cut off first."""
    with path.open("a+b") as stream:
        stream.seek(0)
        whole = stream.read().rfind(b"\n") + 1
        stream.truncate(whole)
        stream.write(finished.model_dump_json().encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_stream(path: Path, job: Job) -> tuple[RoundResult, ...]:
    """The finished rounds; none where there is no file. What an interruption left of a last line does not count.

    Raises:
        InvalidInput: a whole line is no round of this job, or a round stands there twice.
    """
    return parse_stream(path.read_bytes(), job, str(path)) if path.exists() else ()


def parse_stream(content: bytes, job: Job, name: str) -> tuple[RoundResult, ...]:
    """The finished rounds in a stream's bytes, see `read_stream`; `name` is where they came from."""
    *lines, _ = content.split(b"\n")
    found: dict[Turn, RoundResult] = {}
    for number, line in enumerate(lines, start=1):
        with refusing(f"{name}, line {number}: no round ({WHY}); delete the file, run again", InvalidInput):
            finished = parse_document(line.decode(errors="replace"), RoundResult, "it")
        turn = Turn(cell=finished.cell, round=finished.round)
        if finished.run_id != job.run_id or turn not in job.order or turn in found:
            raise InvalidInput(f"{name}, line {number}: not a round of run {job.run_id}; delete the file, run again")
        found[turn] = finished
    return tuple(found.values())


def outstanding(job: Job, finished: tuple[RoundResult, ...]) -> tuple[Turn, ...]:
    """The turns still to be run: not those that are there, and none of a cell that failed or answered wrongly."""
    done = {(item.cell, item.round) for item in finished}
    stopped = {item.cell for item in finished if item.status != "done"}
    return tuple(turn for turn in job.order if (turn.cell, turn.round) not in done and turn.cell not in stopped)
