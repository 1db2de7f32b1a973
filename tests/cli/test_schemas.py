"""The published JSON Schemas: they are those of the code, and every command's real output is what they say."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark import documents
from command_line import check_document, run, strict_json
from exports import Exports
from json_schemas import DOCUMENTS, SCHEMAS, published

from mobileclip_deploy.benchmark.documents import write_document
from mobileclip_deploy.cli import cli
from mobileclip_deploy.network.samples import image_paths


def test_the_published_schemas_are_the_codes() -> None:
    found = {(path.name, path.read_text(encoding="utf-8")) for path in SCHEMAS.iterdir()}
    changed = {name for name, _ in found ^ {*published().items()}}
    assert changed == set(), "type: python tests/json_schemas.py"


def test_every_command_has_a_document_that_is_read_somewhere() -> None:
    assert {*DOCUMENTS, "benchmark"} == {*cli.commands, "error"}
    assert [name for name, command in cli.commands.items() if "--json" not in options(command)] == []
    assert {*ELSEWHERE, *(case.split()[0] for case in HERE)} == set(cli.commands)
    for command, file in ELSEWHERE.items():
        text = (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
        assert f'"{command}"' in text, file
        assert ".json" in text, file


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_every_object_at_the_top_has_its_schema_version() -> None:
    for name, text in published().items():
        schema = json.loads(text)
        for top in schema.get("anyOf", [schema.get("items", schema)]):
            own = schema["$defs"][top["$ref"].rpartition("/")[2]] if "$ref" in top else top
            assert "schema_version" in own["properties"], name
            assert name.startswith("benchmark-") or "schema_version" in own["required"], name


# What prints the documents of the others, whose making takes long: tests that read `Outcome.json`, which checks them.
ELSEWHERE = {
    "benchmark": "benchmark/test_host.py",
    "reinforce": "training/reinforcement/test_building.py",
    "train": "training/trainer/test_training.py",
    "compare": "verify/test_comparison.py",
    "export": "cli/test_commands.py",
    "layouts": "artifacts/layouts/test_layouts.py",
    "evaluate": "cli/test_commands.py",
    "sweep": "benchmark/sweep/test_sweep.py",
    "verify": "verify/test_several.py",
    "audit": "verify/test_app_embeddings.py",
    "demo": "web/test_demo.py",
    "publish": "web/test_publish.py",
    "search": "search/test_library.py",
    "bridge": "export/test_compact.py",
}
HERE = (
    "variants",
    "doctor",
    "devices",
    "inspect a bundle",
    "inspect an artifact",
    "inspect a package",
    "inspect a checkpoint",
    "lint",
    "lint two",
    "convert",
    "reparameterize",
    "classify",
    "embed",
    "report",
)


def arguments(case: str, exports: Exports, folder: Path) -> list[str | Path]:
    onnx, checkpoint = exports.bundle("onnx", "fp16"), exports.checkpoint
    if case == "report":
        write_document(folder / "result.json", documents.result())
    package = exports.bundle("coreml", "fp16").artifact("text") if "package" in case or "lint" in case else None
    more: dict[str, list[str | Path | None]] = {
        "inspect a bundle": [onnx.path],
        "inspect an artifact": [onnx.artifact("text")],
        "inspect a package": [package],
        "inspect a checkpoint": [checkpoint],
        "lint": [package],
        "lint two": [package, "--compare", package],
        "convert": [checkpoint, "--layout", "apple", "-o", folder / "x.pt"],
        "reparameterize": ["--checkpoint", checkpoint, "-o", folder / "x.safetensors"],
        "classify": [onnx.path, image_paths()[0], "--labels", "a,b"],
        "embed": [onnx.path, image_paths()[0], "-o", folder / "x.jsonl"],
        "report": [folder / "result.json", "-o", folder / "x.md"],
    }
    return [one for one in more.get(case, []) if one is not None]


@pytest.mark.usefixtures("without_phones")
@pytest.mark.parametrize("case", HERE)
def test_what_a_command_prints_is_what_is_published(case: str, exports: Exports, tmp_path: Path) -> None:
    found = run(case.split()[0], *arguments(case, exports, tmp_path), "--json", "--quiet")
    assert found.code == 0, found.stderr
    assert found.json


def test_an_error_is_what_is_published() -> None:
    check_document("error", strict_json(run("inspect", "gone", "--json").stderr))


@pytest.mark.usefixtures("without_phones")
@pytest.mark.parametrize("change", [{"unknown": 1}, {"device": None}, {"schema_version": "1"}])
def test_a_document_with_another_key_or_another_type_is_noticed(change: dict[str, Any]) -> None:
    (host, *_) = run("devices", "--json").json
    with pytest.raises((AssertionError, ValueError)):
        check_document("devices", [host | change])
