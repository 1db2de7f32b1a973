"""Paths and names: of files that a document of a stranger's names, and of links that lead out of his folder."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark import documents
from hostile.table import Row, both, edit, nothing, write
from json_files import put

BUNDLE = "onnx-fp16"
NO_PATH, UNSHOWN, LONG = "is not a plain path inside a bundle", "unprintable character", "more than 1,000 characters"
PATHS = {
    "absolute": ("/etc/hostname", NO_PATH),
    "up": ("../x", NO_PATH),
    "up in the middle": ("a/../../x", NO_PATH),
    "up at the end": ("a/..", NO_PATH),
    "itself": (".", NO_PATH),
    "nothing": ("", NO_PATH),
    "backslashes": ("..\\x", NO_PATH),
    "a drive": ("C:x", NO_PATH),
    "hidden": (".ssh/config", NO_PATH),
    "two slashes": ("a//b", NO_PATH),
    "a long part": ("a" * 300, NO_PATH),
    "very long": ("a/" * 5_000 + "a", LONG),
    "NUL": ("a\0b", UNSHOWN),
    "a new line": ("a\nb", UNSHOWN),
    "ESC": ("a\x1b[31mb", UNSHOWN),
    "written backwards": ("a\u202eb", UNSHOWN),
    "half a character": ("a\ud800b", "half a surrogate pair"),
}
TEXTS = {field: PATHS[field] for field in ("very long", "NUL", "a new line", "ESC", "written backwards")}
PATTERN = "a string that does not match"


def at(*place: str) -> Callable[[Any, str], None]:
    return lambda document, value: put(document, place, value)


ATTACHED = {"file": "a", "sha256": "0" * 64, "bytes": 0}
ROUNDING = {
    "method": "gptq",
    "calibration": "c",
    "calibration_sha256": "0" * 64,
    "images": 1,
    "captions": 1,
    "floats": ATTACHED,
    "towers": {},
}


def attached(document: Any, value: str) -> None:
    document["towers"]["image"]["attachments"] = {"etrecord": ATTACHED | {"file": value}}


def rounding(document: Any, value: str) -> None:
    document["rounding"] = ROUNDING | {"floats": ATTACHED | {"file": value}}


def axes(document: Any, value: str) -> None:
    document["axes"] = ATTACHED | {"file": value}


MANIFESTS = tuple(
    Row(
        "manifest",
        f"{place}, {field}",
        edit(lambda document, change=change, value=value: change(document, value)),
        ("inspect", "bundle"),
        line,
        bundle=BUNDLE,
    )
    for place, change in (
        ("artifact", at("towers", "image", "file")),
        ("attachment", attached),
        ("rounding", rounding),
        ("axes", axes),
    )
    for field, (value, line) in PATHS.items()
)

LAYOUT: dict[str, Any] = {
    "name": "mine",
    "title": "Mine",
    "target": "onnx",
    "suffixes": {"fp32": ""},
    "image": {"file": "image{suffix}.onnx", "input": {"name": "i"}, "output": {"name": "o"}},
    "files": {},
}


def layout(field: str, document: object, line: str) -> Row:
    text = document if isinstance(document, str) else json.dumps(document)
    return Row("layout", field, write("mine.json", text), ("layouts", "mine.json"), line)


def changed(change: Callable[[Any, str], object], value: str) -> Any:
    document = json.loads(json.dumps(LAYOUT))
    change(document, value)
    return document


def beside(document: Any, name: str) -> None:
    document["files"] = {name: {"content": {}}}


def precision(document: Any, name: str) -> None:
    document["suffixes"] = {name: ""}


def nested(depth: int) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for _ in range(depth):
        content = {"a": content}
    return {**LAYOUT, "files": {"a.json": {"content": content}}}


def fields(change: Callable[[Any, str], object], place: str, values: Mapping[str, tuple[str, str]]) -> tuple[Row, ...]:
    return tuple(layout(f"{place}, {field}", changed(change, value), line) for field, (value, line) in values.items())


LAYOUTS = (
    *fields(at("image", "file"), "artifact", PATHS),
    *fields(beside, "file", PATHS),
    *fields(
        at("suffixes", "fp32"),
        "suffix",
        {
            field: (PATHS[field][0], PATTERN)
            for field in PATHS
            if field not in ("nothing", "up at the end", "itself", "half a character")
        },
    ),
    *fields(precision, "precision", {field: (value, PATTERN) for field, (value, _) in TEXTS.items()}),
    *fields(at("title"), "title", TEXTS),
    *fields(at("target"), "target", TEXTS),
    *fields(at("image", "input", "name"), "tensor", {**TEXTS, "very long": ("a" * 300, "longer than 200 characters")}),
    layout("nested", nested(60), "is nested deeper than 50 times"),
    layout("nested without end", "[" * 100_000, "nested too deeply"),
    layout("a list", [], "not an object"),
    Row("layout", "not UTF-8", write("mine.json", b"\xff"), ("layouts", "mine.json"), "is not valid UTF-8"),
    layout("suffixes without end", {**LAYOUT, "suffixes": {f"p{n}": "" for n in range(1_000)}}, "more than 100 items"),
    layout(
        "files without end",
        {**LAYOUT, "files": {f"{n}.json": {"content": {}} for n in range(1_000)}},
        "more than 200 items",
    ),
)


def link(name: str, to: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        path = folder / name
        if path.exists():
            path.rename(folder / "kept")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(to.format(folder=folder))

    return make


LINKS = tuple(
    Row(
        "link",
        f"{words[0]}, {name}",
        both(write("key", "a secret"), link(f"bundle/{name}", to)),
        words,
        "is a link out of the bundle",
        bundle=BUNDLE,
    )
    for name, to in (
        ("MODEL_CARD.md", "../key"),
        ("onnx/vision_model_fp16.onnx.data", "{folder}/key"),
        ("onnx", "{folder}"),
        ("tokenizer/vocab.json", "../../key"),
        ("manifest.json", "../kept"),
        ("unread", "/etc"),
        ("deep/in/it", "/etc/hostname"),
    )
    for words in (
        ("inspect", "bundle"),
        ("verify", "bundle"),
        ("demo", "bundle", "--static", "out"),
        ("benchmark", "bundle", "--quick"),
    )
)
PIPES = tuple(
    Row(
        "pipe in a bundle",
        name,
        lambda folder, name=name: os.mkfifo(folder / "bundle" / name),
        ("inspect", "bundle"),
        "is not a regular file",
        bundle=BUNDLE,
    )  # type: ignore[misc]
    for name in ("unread", "onnx/x.data")
)


def document(made: str, place: tuple[str | int, ...], value: str) -> str:
    """A JSON document with another value at a place of it."""
    whole = json.loads(made)
    put(whole, place, value)
    return json.dumps(whole)


JOB = documents.job().model_dump_json()
FIELDS: dict[str, tuple[str | int, ...]] = {
    "run": ("run_id",),
    "cell": ("cells", 0, "id"),
    "artifact": ("cells", 0, "file"),
}
LONG_ONES = {"a long part", "very long", "half a character"}  # which the pattern takes, or JSON does not
LEAVE = {field: value for field, (value, _) in PATHS.items() if field not in LONG_ONES}
JOBS = tuple(
    Row(
        "job",
        f"{place}, {field}",
        write("r.json.partial/job.json", document(JOB, FIELDS[place], value)),
        ("benchmark", "bundle", "--quick", "--json", "r.json", "--resume"),
        FIELDS[place][-1] if place != "run" else "run_id",  # type: ignore[arg-type]
        bundle=BUNDLE,
    )
    for place in FIELDS
    for field, value in LEAVE.items()
)
INDEX = {
    "images": "images",
    "rows": 1,
    "pairs_sha256": "0" * 64,
    "augmentations": 1,
    "policy": None,
    "seed": 0,
    "shard_rows": 1,
    "teachers": [],
    "shards": [{"file": "a", "sha256": "0" * 64, "first": 0, "rows": 1}],
}
RECIPE = "version: 1\nvariant: nano\ndata: data\nsteps: 1\nbatch: 2\nlearning_rate: 0.1\n"
INDEXES = tuple(
    Row(
        "index",
        field,
        both(
            write("recipe.yaml", RECIPE),
            write("data/index.json", document(json.dumps(INDEX), ("shards", 0, "file"), value)),
        ),
        ("train", "recipe.yaml", "-o", "out"),
        line,
    )
    for field, (value, line) in PATHS.items()
)


def sweep(field: str, text: str, line: str, *, alone: bool = False) -> Row:
    head = 'version = 1\ntargets = ["onnx"]\n'
    return Row("sweep", field, write("s.toml", head + text), ("sweep", "s.toml", "-o", "out"), line, alone=alone)


SWEEPS = (
    sweep("a key of 20,000 dots", "a." * 20_000 + "a = 1\n", "line 3: more than 64 dots", alone=True),
    sweep("a table of 20,000 dots", "[" + "a." * 20_000 + "a]\n", "line 3: more than 64 dots", alone=True),
    sweep("a key of many dots, inside", "a = {" + "a . " * 20_000 + "a = 1}\n", "line 3: more than 64 dots"),
    sweep("larger", "# " + "a" * 300_000, "larger than"),
    sweep("nested", "a = " + "[" * 100_000, "nested too deeply"),
    *(
        sweep(f"checkpoint, {name!r}", f"[checkpoints.{json.dumps(name)}]\n", PATTERN)
        for name in ("../x", "/x", "..", "a\\b", "a\x1bb", "a\nb", "a" * 100)
    ),
    *(sweep(f"options, {name!r}", f"[options.{json.dumps(name)}]\n", PATTERN) for name in ("../x", "/x", "a\nb")),
)
OWN = (
    Row(
        "a folder of the user's",
        "where an interrupted run would be",
        write("r.json.partial/thesis.txt", "precious"),
        ("benchmark", "bundle", "--quick", "--json", "r.json"),
        "r.json.partial exists and is not an interrupted run; choose another --json",
        bundle=BUNDLE,
    ),
    Row(
        "a folder of the user's",
        "named as the runtime's",
        write("mine/thesis.txt", "precious"),
        ("demo", "bundle", "--static", "out"),
        "name a folder of that release, or unset the variable",
        code=3,
        bundle=BUNDLE,
        environment={"MOBILECLIP_ONNXRUNTIME_WEB": "mine"},
    ),
    Row(
        "lock",
        "told before anything is verified",
        nothing,
        ("verify", "bundle", "--baseline", "none.json"),
        "no lock file at none.json",
        bundle=BUNDLE,
    ),
    Row(
        "lock",
        "damaged, told before anything is verified",
        write("lock.json", "{"),
        ("verify", "bundle", "--baseline", "lock.json", "--accept"),
        "lock.json",
        bundle=BUNDLE,
    ),
)

ROWS = (*MANIFESTS, *LAYOUTS, *LINKS, *PIPES, *JOBS, *INDEXES, *SWEEPS, *OWN)
