"""Every field of a document that strangers write, holding what it may not: the line names the field."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile.table import Row, edit, write
from json_files import put

import mobileclip_deploy as mcd

NONE_OF_THEM: dict[str, Any] = {"a list in lists": [[[]]], "an object": {"\x1b[2J": "\u202e"}}
MANIFEST = (
    "schema_version",
    "variant",
    "embedding_space",
    "checkpoint.sha256",
    "checkpoint.file",
    "checkpoint.licence",
    "checkpoint.research_only",
    "target",
    "towers.image.file",
    "towers.image.sha256",
    "towers.image.bytes",
    "towers.image.precision",
    "towers.image.input.name",
    "towers.image.input.dtype",
    "towers.image.output.shape",
    "towers.text.input.shape",
    "preprocess.size",
    "preprocess.mean",
    "tokenizer.context_length",
    "tokenizer.pad",
    "embed_dim",
    "logit_scale",
)
RECIPE = ("version", "variant", "data", "steps", "batch", "learning_rate", "distillation", "seed", "checkpoint_every")
LAYOUT = ("schema_version", "name", "title", "target", "precision", "normalised", "image", "text", "files")
LEAST = {"version": 1, "variant": "nano", "data": "data", "steps": 1, "batch": 2, "learning_rate": 0.1}


def holding(path: str, value: Any) -> Callable[[Path], object]:
    return edit(lambda document: put(document, path.split("."), value))


def changed(document: dict[str, Any], path: str, value: Any) -> str:
    put(document, path.split("."), value)
    return json.dumps(document)


def rows() -> Iterator[Row]:
    for what, value in NONE_OF_THEM.items():
        for path in MANIFEST:
            words = ("inspect", "bundle")
            yield Row("field of a manifest", f"{path}, {what}", holding(path, value), words, path, bundle="onnx-fp16")
        for path in RECIPE:
            text = changed(dict(LEAST), path, value)
            words = ("train", "recipe.yaml", "-o", "out")
            yield Row("field of a recipe", f"{path}, {what}", write("recipe.yaml", text), words, path)
        for path in LAYOUT:
            text = changed(json.loads(mcd.read_layout("immich").model_dump_json(exclude_none=True)), path, value)
            words = ("export", "--layout", "mine.json", "-o", "out")
            yield Row("field of a layout", f"{path}, {what}", write("mine.json", text), words, path)


def of_a_sweep(field: str, text: str, line: str) -> Row:
    return Row("sweep", field, write("s.toml", text), ("--quiet", "sweep", "s.toml", "-o", "out"), line)


VERSIONS = tuple(
    Row(
        "version in a manifest",
        what,
        edit(lambda document, word=word: document["environment"].update({"onnxruntime": word})),
        ("inspect", "bundle"),
        "environment.onnxruntime",
        bundle="onnx-fp16",
    )
    for what, word in {
        "a second line for pip": "1.32.0\n/tmp/evilpkg",
        "an address": " @ https://example.com/evil.whl",
        "a path": "../../evil",
        "an option": "1.32.0 --hash=sha256:0",
        "very long": "1" * 1_000,
    }.items()
)

SWEEPS = (
    of_a_sweep("not TOML", "[[[[", "not TOML"),
    of_a_sweep("an unknown field", 'version = 1\ntargets = ["onnx"]\n"\\u001b[2J" = 1\n', "s.toml"),
    of_a_sweep("a target that is none", 'version = 1\ntargets = ["\\u202eonnx"]\n', "target"),
)

ROWS = (*rows(), *VERSIONS, *SWEEPS)
