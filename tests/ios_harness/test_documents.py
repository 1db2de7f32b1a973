"""The schemas of Python and Swift are the same: made-up documents go both ways, and both refuse the same faults."""

import json
from pathlib import Path
from typing import Any

import pytest
from ios_harness.generated_documents import Generator, faults
from programs import output
from pydantic import BaseModel

from mobileclip_deploy.benchmark.documents import parse_document
from mobileclip_deploy.benchmark.job import Job
from mobileclip_deploy.benchmark.result import RoundResult
from mobileclip_deploy.errors import InvalidInput

KINDS: list[tuple[str, type[BaseModel]]] = [("job", Job), ("round", RoundResult)]
EACH = 100  # so 200 documents, from either side


def exchanged(swift: Path, kind: str, texts: list[str]) -> list[str]:
    """Swift's answers: "=" and the document as it understood and wrote it, or "!" and why it refused it."""
    lines = "".join(f"{text}\n" for text in texts)
    answers = [line for line in output(swift / "document-exchange", kind, input=lines).split("\n") if line]
    assert len(answers) == len(texts)
    return answers


def read(text: str, model: type[BaseModel]) -> BaseModel | None:
    """As Python reads a file; None when it refuses it."""
    try:
        return parse_document(text, model, "document")
    except InvalidInput:
        return None


@pytest.mark.parametrize(("kind", "model"), KINDS, ids=["jobs", "rounds"])
def test_documents_go_from_python_through_swift_and_back(swift: Path, kind: str, model: type[BaseModel]) -> None:
    generator = Generator(kind, seed=1)
    documents = [generator.document() for _ in range(EACH)]
    answers = exchanged(swift, kind, [json.dumps(document) for document in documents])
    for document, answer in zip(documents, answers, strict=True):
        wanted = model.model_validate_json(json.dumps(document), strict=True)
        assert answer.startswith("="), answer
        assert read(answer[1:], model) == wanted


# A field with a default may be left out, but is never null: Swift takes a null for a field that was left out.
NULLS = tuple(f"{name} = None" for name in ("options", "golden_inputs", "cool_seconds", "pace_milliseconds"))


def test_both_sides_refuse_the_same_faults_of_a_job(swift: Path) -> None:
    generator = Generator("job", seed=3)
    seen: dict[str, None] = {}
    found: list[tuple[str, str]] = []
    for _ in range(4):
        document = generator.document()
        found.append(("none", json.dumps(document)))
        for name, text in faults(generator, document):
            place, equals, value = name.partition(" = ")
            general = f"{''.join(c for c in place if not c.isdigit())}{equals}{value}"
            # Pydantic takes true for the 1 that a schema version must be; nobody writes that.
            if general not in seen and not general.endswith(("schema_version = True", *NULLS)):
                seen[general] = None
                found.append((name, text))
    answers = exchanged(swift, "job", [text for _, text in found])
    accepted = 0
    for (name, text), answer in zip(found, answers, strict=True):
        here = read(text, Job)
        assert (here is not None) == answer.startswith("="), f"{name}: Python {here is not None}, Swift: {answer[:300]}"
        assert name != "none" or here is not None
        accepted += here is not None
    assert 0.02 < accepted / len(found) < 0.5, "neither all nor none should pass"


def test_every_field_of_the_schemas_is_exchanged() -> None:
    """The generator leaves no field out: a field that only one side has breaks a test above."""
    for kind, model in KINDS:
        generator = Generator(kind, seed=1)
        documents = [generator.document() for _ in range(EACH)]
        fields = {name for document in documents for name in names(document)}
        schema = model.model_json_schema()
        assert {name for one in [schema, *schema["$defs"].values()] for name in one["properties"]} <= fields


def names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(names, value.values()))
    return set().union(*map(names, value)) if isinstance(value, list) else set()
