"""Manifests, lock files, tables, recipes, results: what is JSON, YAML or text."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

from benchmark import documents
from hostile.table import DEEP, MANY, Row, both, edit, sparse, write
from safetensors.numpy import load_file, save_file

from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.model.variants import models_dir

BUNDLE = "onnx-fp16"


def manifest(field: str, make: Callable[[Path], object], line: str, *, alone: bool = False) -> Row:
    return Row("manifest", field, make, ("inspect", "bundle"), line, bundle=BUNDLE, alone=alone)


MANIFESTS = (
    manifest(
        "context length",
        edit(lambda m: m["tokenizer"].update(context_length=10**9)),
        "tokenizer.context_length is not from 1",
    ),
    manifest("5 million items", write("bundle/manifest.json", MANY), "larger than", alone=True),
    manifest("a million items", write("bundle/manifest.json", "[" + "0," * 10**6 + "0]"), "more items", alone=True),
    manifest(
        "100,000 labels that are none",
        edit(lambda m: m.update(classifier={"labels": [0] * 90_000, "template": "{}"})),
        "classifier.labels.0",
        alone=True,
    ),
    manifest("nested", write("bundle/manifest.json", DEEP), "nested"),
    manifest("a number of 5,000 digits", edit(lambda m: m.update(embed_dim="DIGITS")), "digits", alone=True),
    manifest("a number of 400 digits", edit(lambda m: m.update(embed_dim=10**400)), "embed_dim"),
    manifest("embedding", edit(lambda m: m.update(embed_dim=10**9)), "embed_dim is not"),
    manifest("image size", edit(lambda m: m["preprocess"].update(size=10**9)), "preprocess.size is not"),
    manifest("a path that is none", edit(lambda m: m["towers"]["image"].update(file="a\0b")), "unprintable character"),
)


def beside(field: str, make: Callable[[Path], object], line: str, *words: str, alone: bool = False) -> Row:
    return Row("beside", field, make, words or ("inspect", "bundle"), line, bundle=BUNDLE, alone=alone)


def itself(path: str) -> Callable[[Path], object]:
    """A link to itself in place of a folder or file."""

    def make(folder: Path) -> None:
        (folder / path).rename(folder / "kept")
        (folder / path).symlink_to(folder / path)

    return make


def golden(**metadata: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        file = folder / "bundle" / "golden.safetensors"
        save_file(load_file(file), file, {"images": "[]", "prompts": "[]", "folded": "true"} | metadata)

    return make


BESIDE = (
    beside("a folder that is a link to itself", itself("bundle/onnx"), "cannot be"),
    *(
        beside(f"{name} of 10 GB", sparse(f"bundle/{name}", 10**10), f"{name} is larger than", alone=True)
        for name in ("preprocessor_config.json", "tokenizer/merges.txt", "MODEL_CARD.md")
    ),
    beside("measured, 5 million", write("bundle/parity.json", MANY), "parity.json", alone=True),
    beside("measured, nested", write("bundle/parity.json", DEEP), "parity.json", alone=True),
    beside("golden, nested", golden(images=DEEP), "damaged", "verify", "bundle"),
    beside("golden, digits", golden(folded="9" * 5_000), "damaged", "verify", "bundle"),
    beside(
        "golden, header",
        write("bundle/golden.safetensors", (2**40).to_bytes(8, "little") + b"{" * 100),
        "header",
        "verify",
        "bundle",
    ),
    *(
        beside(
            f"lock, {field}",
            write("lock.json", text),
            line,
            "--quiet",
            "verify",
            "bundle",
            "--baseline",
            "lock.json",
            alone=True,
        )
        for field, text, line in (("5 million", MANY, "larger than"), ("nested", DEEP, "nested"))
    ),
)

PIPES = tuple(
    Row("pipe", name, lambda folder, name=name: os.mkfifo(folder / name), ("inspect", name), "is not a regular file")  # type: ignore[misc]
    for name in ("a.onnx", "a.pte", "a.pt", "a.safetensors", "a")
)


def tar(path: str, kind: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / path, "w") as archive:
            for name in ("a.jpg", "a.cls"):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, name
                archive.addfile(member)

    return make


def shards(count: str) -> Callable[[Path], object]:
    return both(tar("data/test/0.tar", tarfile.REGTYPE), write("data/test/nshards.txt", count))


def table(rows: str, classes: str) -> Callable[[Path], object]:
    return both(
        write("data/a.jpg", "an image"),
        write("data/pairs.jsonl", rows),
        write("data/classes.txt", classes),
        write("data/dataset.json", '{"name": "x", "classes": "classes.txt"}'),
    )


def dataset(
    field: str, make: Callable[[Path], object], line: str, *words: str, data: str = "data", alone: bool = False
) -> Row:
    words = ("evaluate", "bundle", "--dataset", data, *words)
    return Row("dataset", field, make, words, line, bundle=BUNDLE, alone=alone)


ONE = table('{"image": "a.jpg", "label": "cat"}\n', "cat\n")
DATASETS = (
    dataset("10^12 shards", shards(str(10**12)), "instead of a shard count"),
    dataset("999,999,999 shards", shards("999999999"), "no shard at"),
    dataset("a digit that is no number", shards("²"), "instead of a shard count"),
    *(
        dataset(field, tar("data/test/0.tar", kind), "a link or a special file")
        for field, kind in (
            ("symbolic links", tarfile.SYMTYPE),
            ("hard links", tarfile.LNKTYPE),
            ("devices", tarfile.CHRTYPE),
        )
    ),
    dataset(
        "a shard that is a pipe",
        both(write("data/test/nshards.txt", "1"), lambda folder: os.mkfifo(folder / "data/test/0.tar")),
        "no shard at",
    ),
    dataset(
        "a label of 5,000 digits",
        table('{"image": "a.jpg", "label": "' + "7" * 5_000 + '"}\n', "cat\ndog\n"),
        "is not in",
    ),
    dataset("a description of 5 million items", write("data/dataset.json", MANY), "has more items"),
    dataset("a nested description", write("data/dataset.json", DEEP), "not JSON"),
    dataset(
        "a table of millions",
        write("dataset.json", '{"dataset": "x", "images": ' + MANY + "}"),
        "images.0",
        data="dataset.json",
        alone=True,
    ),
    dataset(
        "17 MB of class names",
        both(ONE, write("names.txt", "9" * (17 << 20))),
        "larger than",
        "--class-names",
        "names.txt",
    ),
    dataset(
        "a class of 5,000 digits",
        both(ONE, write("names.json", "[" + "9" * 5_000 + "]")),
        "not JSON",
        "--class-names",
        "names.json",
    ),
)

INDEXED = write("recipe.yaml", "version: 1\nvariant: nano\ndata: data\nsteps: 1\nbatch: 2\nlearning_rate: 0.1\n")
RECIPES = (
    *(
        Row("recipe", field, write("recipe.yaml", text), ("train", "recipe.yaml", "-o", "out"), line)
        for field, text, line in (
            ("nested", DEEP[:60_000], "nested too deeply"),
            ("nested lists", "- " * 30_000, "nested too deeply"),
            ("larger", "a" * 100_000, "larger than"),
            ("references", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "refers back"),
            ("digits", f"version: {'9' * 5_000}\n", "digits"),
            ("a day that is none", "seed: 2026-13-45\n", "not YAML"),
        )
    ),
    *(
        Row(
            "recipe",
            f"index of shards, {field}",
            both(INDEXED, write("data/index.json", text)),
            ("train", "recipe.yaml", "-o", "out"),
            line,
        )
        for field, text, line in (("5 million", MANY, "larger than"), ("nested", DEEP, "nested"))
    ),
)

RESULT = documents.result().model_dump_json()
RESULTS = tuple(
    Row("result", field, write("r.json", text), ("report", "r.json", "-o", "report.md"), line, alone=True)
    for field, text, line in (
        (
            "5 million samples",
            RESULT.replace("[2000000,2100000,1900000]", MANY.replace("0", '""', 1)),
            "more items",
        ),
        ("nested", RESULT.replace("[2000000,2100000,1900000]", DEEP), "nested too deeply, at line"),
        ("digits", RESULT.replace("[2000000,2100000,1900000]", "9" * 5_000), "a number of too many digits"),
        ("a million fields", lambda: "{" + ",".join(f'"k{number}":0' for number in range(10**6)) + "}", "more fields"),
    )
)

OUT = ("-o", "out.safetensors")
PICTURES = str(models_dir() / "nano" / "evaluation")


def negative(folder: Path) -> None:
    """A checkpoint with a negative variance, and a recipe that starts with it."""
    weights = load_file(builtin_checkpoint())
    name = next(key for key in weights if key.endswith("running_var"))
    weights[name][1] = -0.5
    save_file(weights, folder / "c.safetensors")
    recipe = f"data: {PICTURES}\nstart: c.safetensors\nbatch: 2\ndistillation: 0\n"
    write("recipe.yaml", "version: 1\nvariant: nano\nsteps: 1\nlearning_rate: 0.1\n" + recipe)(folder)


CHECKPOINTS = tuple(
    Row(
        "checkpoint",
        f"a negative variance, {words[0]}",
        negative,
        words,
        "holds a negative variance, which a BatchNorm cannot have; give an undamaged file",
    )
    for words in (
        ("reparameterize", "--checkpoint", "c.safetensors", *OUT),
        ("export", "--target", "onnx", "--checkpoint", "c.safetensors", "-o", "out"),
        ("train", "recipe.yaml", "-o", "out"),
    )
)

LABELS = tuple(
    Row("labels", field, make, ("export", "--target", "onnx", "--labels", "labels", "-o", "out"), line)
    for field, make, line in (
        ("a pipe", lambda folder: os.mkfifo(folder / "labels"), "not a regular file"),
        ("6 MB", write("labels", "label\n" * 10**6), "larger than"),
    )
)

ROWS = (*MANIFESTS, *BESIDE, *PIPES, *DATASETS, *RECIPES, *RESULTS, *CHECKPOINTS, *LABELS)
