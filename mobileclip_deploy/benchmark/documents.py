"""Jobs and results as files, and the stream of finished rounds.

Documents are validated, and written whole or not at all. The stream is appended line by line, and can be read after any
interruption.
"""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mobileclip_deploy.base.files import check_items, read_regular, write_whole
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.benchmark.assembly import assemble
from mobileclip_deploy.benchmark.job import Job, Turn
from mobileclip_deploy.benchmark.result import Result, RoundResult, Run
from mobileclip_deploy.errors import REASON, InvalidInput, first_problem, reraising

Document = TypeVar("Document", bound=BaseModel)
DOCUMENT_BYTES, DOCUMENT_NAMES = 256 << 20, 200_000
DOCUMENT_ITEMS = 4_000_000
"""Maximum number of items; each takes 180 bytes while it is read. Ten rounds of two seconds have 200,000 samples of 0.1
ms."""
ALONE = ("android", "ios", "mac")
"""Devices that compared their answers themselves in earlier versions."""


def read_job(path: Path) -> Job:
    """Reads a job.

    Raises:
        InvalidInput: the file is missing, or not a job of this schema version.
    """
    return parse_document(_text(path), Job, str(path))


def read_result(path: Path) -> Result:
    """Reads a result, or the run that a device sent (`Run`), whose figures are then computed.

    Raises:
        InvalidInput: the file is missing, or not a result of this schema version.
    """
    text = _text(path)
    try:
        result = _validated(text, Result, str(path))
    except ValidationError as error:
        # A run of a device has its rounds at the top; a result has them in its cells.
        if not any(item["loc"] == ("rounds",) for item in error.errors(include_url=False, include_input=False)):
            raise _refused(error, Result, str(path)) from error
    else:
        golden = [cell.golden for cell in result.job.cells if cell.golden]
        # Jobs of 0.3 and before contain all answers.
        alone = any(item.outputs and item.outputs.shape[0] == item.inputs.shape[0] for item in golden)
        return result.model_copy(
            update={"self_reported": result.self_reported or (alone and result.device.kind in ALONE)}
        )
    from mobileclip_deploy.benchmark.offline_jobs import judge_offline

    run = parse_document(text, Run, str(path))
    judged = judge_offline(run)
    return assemble(judged or run, self_reported=judged is None)


def write_document(path: Path, document: BaseModel) -> None:
    """Writes JSON, nulls included, flushed to the disk and renamed into place.

    Raises:
        InvalidInput: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, document.model_dump_json() + "\n")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; choose another place or make room") from error


def parse_document(text: str, model: type[Document], name: str) -> Document:
    """Parses JSON text; `name` is its source, for messages. Strict, as the schema is: "1" and true are not numbers.

    Raises:
        InvalidInput: the text is not JSON, or not such a document; the message names the field.
    """
    try:
        return _validated(text, model, name)
    except ValidationError as error:
        raise _refused(error, model, name) from error


def _validated(text: str, model: type[Document], name: str) -> Document:
    check_items(name, text, DOCUMENT_ITEMS)
    return parse_model(model, text, strict=True)


def _refused(error: ValidationError, model: type[BaseModel], name: str) -> InvalidInput:
    first = error.errors(include_url=False, include_input=False)[0]
    if model is Result and first["loc"] == ("schema_version",) and first["type"] in ("missing", "literal_error"):
        return InvalidInput(f"{name} was not written by `benchmark --json`")
    kind = model.__name__.lower()
    return InvalidInput(f"{name} is no benchmark {kind} of schema version 1: {first_problem(error)}")


def _text(path: Path) -> str:
    with reraising(f"{path} cannot be read", OSError, UnicodeDecodeError):
        text = read_regular(path, DOCUMENT_BYTES).decode("utf-8")

    # Samples come without names. A million unknown names would be a million errors of pydantic.
    if text.count(":") > DOCUMENT_NAMES:
        raise InvalidInput(f"{path} has more fields than a result can have")
    return text


def append(path: Path, finished: RoundResult) -> None:
    """Appends one line, which is on the disk before this returns. An incomplete line of an interruption is removed
    first."""
    with path.open("a+b") as stream:
        stream.seek(0)
        whole = stream.read().rfind(b"\n") + 1
        stream.truncate(whole)
        stream.write(finished.model_dump_json().encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_stream(path: Path, job: Job) -> tuple[RoundResult, ...]:
    """Returns the finished rounds; none if there is no file. An incomplete last line is ignored.

    Raises:
        InvalidInput: a complete line is not a round of this job, or a round occurs twice.
    """
    return parse_stream(path.read_bytes(), job, str(path)) if path.exists() else ()


def parse_stream(content: bytes, job: Job, name: str) -> tuple[RoundResult, ...]:
    """Returns the finished rounds in a stream's bytes, see `read_stream`; `name` is their source, for messages."""
    *lines, _ = content.split(b"\n")
    by_turn: dict[Turn, RoundResult] = {}
    for number, line in enumerate(lines, start=1):
        with reraising(f"{name}, line {number}: not a round ({REASON}); delete the file, run again", InvalidInput):
            finished = parse_document(line.decode(errors="replace"), RoundResult, "it")
        turn = Turn(cell=finished.cell, round=finished.round)
        if finished.run_id != job.run_id or turn not in job.order or turn in by_turn:
            raise InvalidInput(f"{name}, line {number}: not a round of run {job.run_id}; delete the file, run again")
        by_turn[turn] = finished
    return tuple(by_turn.values())


def outstanding(job: Job, finished: tuple[RoundResult, ...]) -> tuple[Turn, ...]:
    """Returns the turns that are still to be run: not the finished ones, and none of a cell that failed or had wrong
    answers."""
    done = {(item.cell, item.round) for item in finished}
    stopped = {item.cell for item in finished if item.status != "done"}
    return tuple(turn for turn in job.order if (turn.cell, turn.round) not in done and turn.cell not in stopped)
