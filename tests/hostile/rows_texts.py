"""Texts of strangers: each text of a manifest, names of files and folders, labels, templates and prompts."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.rows_results import HARM
from hostile.table import Row, both, edit, write
from json_files import put

from mobileclip_deploy.network.samples import image_paths

BUNDLE = "onnx-fp16"
ENTITIES = "&" + "amp;" * 20_000
OTHERS = ("NUL", "\0"), ("a bell", "\a"), ("a title", "\x1b]0;t\a"), ("C1", "\x9b31m"), ("an isolate", "\u2067a")
# Field of a manifest -> what answers: a table with its value in it, or one line.
FREE = (
    "variant",
    "embedding_space",
    "template",
    *(f"checkpoint.{name}" for name in ("variant", "layout", "file", "licence", "repository")),
    *(f"towers.{one}" for one in ("image.input.name", "image.output.dtype", "image.input.colour", "text.input.dtype")),
    f"options.{HARM}",
)
REFUSED = {
    "target": "unknown target",
    "towers.image.file": "towers.image.file",
    "towers.image.precision": "towers.image.precision",
    **{name: name for name in ("towers.text.sha256", "checkpoint.sha256", "checkpoint.weights", "environment.torch")},
    f"environment.{HARM}": "environment",
    "preprocess.resize": "preprocess.resize",
    "preprocess.interpolation": "preprocess.interpolation",
    "measurements": "measurements",
    f"towers.{HARM}": "towers",
    HARM: HARM[:1],
}


def holding(field: str, value: Any) -> Callable[[Path], object]:
    place = field.split(".") if field != HARM else [HARM]
    return edit(lambda manifest: put(manifest, place, value))


def inspected(kind: str, field: str, make: Callable[[Path], object], line: str, code: int) -> Row:
    field = field.replace(HARM, "a new name")
    return Row(kind, field, make, ("inspect", "bundle"), line, code=code, bundle=BUNDLE)


MANIFESTS = (
    *(inspected("manifest's text", field, holding(field, HARM), "onnx", 0) for field in FREE),
    *(inspected("manifest's text", field, holding(field, HARM), line, 2) for field, line in REFUSED.items()),
    *(
        inspected("manifest's text", f"licence, {what}", holding("checkpoint.licence", text), "licence", 0)
        for what, text in OTHERS
    ),
    *(
        inspected("half a character", field, holding(field, "\ud800"), "contains half a surrogate pair", 2)
        for field in FREE
        if HARM not in field
    ),
    inspected("bound of a text", "template", holding("template", "{}" + "a" * 999), "template has at most 1,000", 2),
    inspected("bound of a text", "places", holding("template", "{}" * 11), "can contain {} at most 10 times", 2),
    *(
        inspected("bound of a text", what, holding("classifier", {"labels": labels, "template": template}), line, 2)
        for what, labels, template, line in (
            ("template of labels", ["a", "b"], "{}" + "a" * 999, "template has at most 1,000"),
            ("a label", ["a", "b" * 1_001], "{}", "a label has at most 1,000"),
            ("a label of two lines", ["a", "b\nc"], "{}", "contains an unprintable character"),
            ("a label that hides", ["a", "b\u202ec"], "{}", "contains an unprintable character"),
            ("labels", list(map(str, range(100_001))), "{}", "at most 100,000 labels"),
            ("labels together", [f"{n:036}" for n in range(75_000)], "{}", "at most 3,145,728 bytes together"),
        )
    ),
)


def copied(name: str) -> Callable[[Path], object]:
    """An image of the samples under another name."""

    def make(folder: Path) -> None:
        (folder / name).write_bytes(image_paths()[0].read_bytes())

    return make


def classified(
    field: str,
    line: str,
    *words: str,
    make: Callable[[Path], object] | None = None,
    code: int = 2,
    image: str = "a.jpg",
) -> Row:
    made = copied(image) if make is None else both(copied(image), make)
    return Row("classify", field, made, ("classify", "bundle", image, *words), line, code=code, bundle=BUNDLE)


CLASSIFIED = (
    classified("a template of 80 kB", "has at most 1,000", "--labels", "a,b", "--template", ENTITIES + "{}"),
    classified("a template of 500 places", "at most 10 times", "--labels", "a,b", "--template", "{}" * 400),
    classified("a label of 80 kB", "a label has at most 1,000", "--labels", f"a,{ENTITIES}"),
    classified("half a character", "is not valid Unicode", "--labels", "a,\udcff"),
    classified("a template with half a character", "is not valid Unicode", "--labels", "a,b", "--template", "{}\udcff"),
    classified(
        "200,000 labels",
        "at most 100,000 labels",
        "--labels",
        "labels.txt",
        make=write("labels.txt", "\n".join(map(str, range(200_000)))),
    ),
    *(
        classified(
            f"labels with {label!r}",
            "an unprintable character",
            "--labels",
            "labels.txt",
            make=write("labels.txt", label),
        )
        for label in ("a\u202eb\nc", "c\x1b[2Jd\ne", "a\tb\nc")
    ),
    classified("an image that hides", r"a\x1b[2J\n.jpg", "--labels", "a,b", image="a\x1b[2J\n.jpg", code=0),
    classified("an image whose name is no text", r"a\xff.jpg", "--labels", "a,b", image="a\udcff.jpg", code=0),
    classified("a name in JSON", r"a\u202e.jpg", "--labels", "a,b", "--json", image="a\u202e.jpg", code=0),
    *(
        classified(f"a formula, {label[:1]!r}", f"a.jpg,{cell},", "--csv", "--labels", f"{label},cat", code=0)
        for label, cell in (
            ("=1+1", "'=1+1"),
            ("+a", "'+a"),
            ("-a", "'-a"),
            ("@a", "'@a"),
            ("\uff1d1", "'\uff1d1"),
        )
    ),
    classified("a formula of a name", "'@a.jpg,", "--csv", "--labels", "a,b", image="@a.jpg", code=0),
    classified("a number", "-5,", "--csv", "--labels", "-5,cat", code=0),
)

EMBEDDED = tuple(
    Row(
        "embed",
        f"an image whose name is no text, {suffix}",
        copied("a\udcff.jpg"),
        ("embed", "bundle", "a\udcff.jpg", "-o", f"out{suffix}"),
        f"out{suffix}",
        code=0,
        bundle=BUNDLE,
    )
    for suffix in (".jsonl", ".safetensors", ".npy", ".mcdx")
)


def dataset(labels: str, classes: str, templates: str = "") -> Callable[[Path], object]:
    described = '{"name": "x", "classes": "classes.txt"' + (f', "template": "{templates}"' if templates else "") + "}"
    return both(
        write("data/pairs.jsonl", labels),
        write("data/classes.txt", classes),
        write("data/dataset.json", described),
        lambda folder: copied("data/a.jpg")(folder),
    )


def tar_of_12_gigabytes(folder: Path) -> None:
    """A picture of 12 GB in an archive, and its class: a sparse file, which takes no room."""
    (folder / "data" / "test").mkdir(parents=True)
    with (folder / "data" / "test" / "0.tar").open("wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
            note = tarfile.TarInfo("a.cls")
            note.size = 1
            archive.addfile(note, io.BytesIO(b"0"))
            archive.fileobj = stream
            picture = tarfile.TarInfo("a.jpg")
            picture.size = 12 << 30
            stream.write(picture.tobuf(tarfile.GNU_FORMAT))
            place = stream.tell()
        os.truncate(stream.fileno(), place + picture.size + 1024)


PICTURES = (
    Row(
        "picture",
        "12 GB in a tar",
        both(tar_of_12_gigabytes, write("data/classnames.txt", "cat\ndog\n")),
        ("--quiet", "evaluate", "bundle", "--dataset", "data"),
        "12,884,901,888 bytes, more than",
        bundle=BUNDLE,
        alone=True,
        megabytes=900,
    ),
)

ROWS = [*MANIFESTS, *CLASSIFIED, *EMBEDDED, *PICTURES]
