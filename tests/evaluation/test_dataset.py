"""Datasets: what can be read, and what is refused with the file and the row that is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluation.datasets import image

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset, read_dataset

Rows = list[dict[str, object]]


def described(folder: Path, rows: Rows, classes: str | None = None, **description: object) -> Path:
    """A dataset with a dataset.json and two images, a.png and b.png."""
    for name in ("a.png", "b.png"):
        image(folder / name)
    if classes is not None:
        (folder / "classes.txt").write_text(classes, encoding="utf-8")
        description["classes"] = "classes.txt"
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps({"name": "mine"} | description), encoding="utf-8")
    return folder


def test_pairs_with_captions_are_for_retrieval_and_rows_with_labels_for_classification(tmp_path: Path) -> None:
    rows: Rows = [{"image": "a.png", "text": "first"}, {"image": "b.png", "text": "zweites Bild"}]
    data = read_dataset(described(tmp_path, rows))
    assert data.tasks == ("retrieval",)
    assert data.captions == ("first", "zweites Bild")
    assert [path.name for path in data.images] == ["a.png", "b.png"]
    rows: Rows = [{"image": "a.png", "label": "dog"}, {"image": "b.png", "label": "cat"}]
    data = read_dataset(described(tmp_path, rows, "cat\ndog\n", template="a {}"))
    assert (data.tasks, data.classes, data.labels, data.templates) == (
        ("classification",),
        ("cat", "dog"),
        (1, 0),
        ("a {}",),
    )


def test_class_folders_are_classes_in_order_with_blanks_for_underscores(tmp_path: Path) -> None:
    for name in ("b_2/y.png", "a/x.JPG", "a/deep/z.png", ".hidden/h.png"):
        image(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    data = read_dataset(tmp_path)
    assert (data.classes, data.labels, data.tasks) == (("a", "b 2"), (0, 0, 1), ("classification",))


def test_the_built_in_set_is_whole_and_has_at_least_300_concepts() -> None:
    data = builtin_dataset()
    assert set(data.tasks) == {"classification", "retrieval"}
    assert len(set(data.captions)) >= 300
    assert all(path.is_file() for path in data.images)


GOOD: Rows = [{"image": "a.png", "text": "a"}]
DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: None, "no dataset folder or file"),
    "a file": (lambda folder: folder.write_text(""), "a dataset file ends with"),
    "an empty folder": (lambda folder: folder.mkdir(), "neither a dataset.json, nor shards"),
    "pictures without a folder": (
        lambda folder: image(folder / "a.png"),
        "data holds pictures without labels: put them in a folder per class, or give a .csv",
    ),
    "an empty class": (lambda folder: (folder / "cat").mkdir(parents=True), "cat holds no images"),
    "not JSON": (lambda folder: described(folder, GOOD) and (folder / "dataset.json").write_text("{"), "not JSON"),
    "not an object": (
        lambda folder: described(folder, GOOD) and (folder / "dataset.json").write_text("[]"),
        "dataset.json",
    ),
    "no name": (lambda folder: described(folder, GOOD) and (folder / "dataset.json").write_text("{}"), "name"),
    "not UTF-8": (lambda folder: described(folder, GOOD) and (folder / "dataset.json").write_bytes(b"\xff"), "UTF-8"),
    "no pairs file": (lambda folder: described(folder, GOOD, pairs="gone.jsonl"), "gone.jsonl"),
    "no pairs": (lambda folder: described(folder, []), "holds no rows"),
    "a row that is not JSON": (
        lambda folder: described(folder, GOOD) and (folder / "pairs.jsonl").write_text('{"image": "a.png"}\n{'),
        "pairs.jsonl:2",
    ),
    "a row without an image": (lambda folder: described(folder, [*GOOD, {"text": "b"}]), "pairs.jsonl:2: image"),
    "an image that is not there": (
        lambda folder: described(folder, [*GOOD, {"image": "c.png", "text": "c"}]),
        "pairs.jsonl:2: no image at",
    ),
    "a label that is no class": (
        lambda folder: described(folder, [{"image": "a.png", "label": "dog"}], "cat\n"),
        "pairs.jsonl:1: the label 'dog' is not in",
    ),
    "a label left out": (lambda folder: described(folder, GOOD, "cat\n"), "pairs.jsonl:1: no label"),
    "no file of classes": (
        lambda folder: described(folder, GOOD, "cat\n") and (folder / "classes.txt").unlink(),
        "classes.txt cannot be read",
    ),
    "no classes": (lambda folder: described(folder, GOOD, "\n"), "at least one class"),
    "a class twice": (
        lambda folder: described(folder, GOOD, "cat\ndog\ncat\n"),
        "classes.txt:3: the class",
    ),
    "some captions": (
        lambda folder: described(folder, [*GOOD, {"image": "b.png"}]),
        "pairs.jsonl:2: no text",
    ),
    "nothing to measure": (lambda folder: described(folder, [{"image": "a.png"}]), "nothing to measure"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_dataset_is_refused_with_what_is_wrong(tmp_path: Path, case: str) -> None:
    damage, reason = DAMAGED[case]
    damage(tmp_path / "data")
    with pytest.raises(InvalidInput) as refused:
        read_dataset(tmp_path / "data")
    assert reason in str(refused.value)
