"""Every form of dataset that is published is read as it is, and what is wrong in it is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import refusal, run
from evaluation.datasets import image, karpathy, shards, table
from packed import write_tar

from mobileclip_deploy.errors import InvalidInput, MobileClipDeployError, UsageError
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.network.model.preprocessing import decode_image
from mobileclip_deploy.pictures.image_sources import read_image


def synsets(folder: Path) -> Path:
    """ImageNet's layout."""
    for name in ("n01443537/a.JPEG", "n01440764/b.JPEG", "n01440764/c.JPEG"):
        image(folder / "val" / name)
    return folder / "val"


NAMES = {
    "by folder, with synonyms": ("names.txt", "n01443537 goldfish, Carassius auratus\nn01440764 tench, Tinca tinca\n"),
    "in the folders' order": ("names.txt", "tench\ngoldfish\n"),
    "as an object": ("names.json", '{"n01440764": "tench", "n01443537": "goldfish"}'),
    "as torchvision's index": ("names.json", '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}'),
}


@pytest.mark.parametrize("form", NAMES)
def test_synset_folders_take_their_names_from_a_file(tmp_path: Path, form: str) -> None:
    file, text = NAMES[form]
    (tmp_path / file).write_text(text, encoding="utf-8")
    data = read_dataset(synsets(tmp_path), class_names=tmp_path / file)
    assert (data.classes, data.labels) == (("tench", "goldfish"), (0, 0, 1))


def test_a_table_groups_the_captions_of_an_image_and_is_read_as_windows_writes_it(tmp_path: Path) -> None:
    text = 'filepath,title\na.png,"first, with a comma"\nb.png,other\na.png,second\n'
    data = read_dataset(table(tmp_path, text))
    assert data.captions == ("first, with a comma", "second", "other")
    assert data.caption_images == (0, 0, 1)
    assert data.tasks == ("retrieval",)
    data = read_dataset(table(tmp_path, "\ufeffimage,label\r\na.png,dög\r\nb.png,cat\r\n"))
    assert (data.classes, data.labels) == (("cat", "dög"), (1, 0))


def test_labels_may_be_numbers_of_a_file_of_names(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\nfish\n", encoding="utf-8")
    lines = '{"image": "a.png", "label": 1}\n{"image": "b.png", "label": "cat"}\n'
    data = read_dataset(table(tmp_path, lines, "data.jsonl"), class_names=tmp_path / "names.txt")
    assert (data.classes, data.labels) == (("cat", "dog", "fish"), (1, 0))


@pytest.mark.parametrize("place", ["", "images", "flickr30k-images"])
def test_flickr_s_json_is_read_as_published_wherever_its_images_are(tmp_path: Path, place: str) -> None:
    file = karpathy(tmp_path)
    for number in range(3):
        image(tmp_path / place / f"{number}.png")
    data = read_dataset(file)
    assert (len(data.images), data.caption_images) == (2, (0, 0, 1, 1))
    assert data.captions[2] == "Sentence 0 of 1."
    assert read_dataset(file, split="train").captions == ("Sentence 0 of 2.", "Sentence 1 of 2.")


def test_coco_s_json_names_the_folder_of_each_image(tmp_path: Path) -> None:
    file = karpathy(tmp_path, "coco", "val2014")
    for number in range(3):
        image(tmp_path / "coco" / "val2014" / f"{number}.png")
    data = read_dataset(file, images=tmp_path / "coco")
    assert [str(path) for path in data.images] == [str(tmp_path / "coco" / "val2014" / f"{i}.png") for i in (0, 1)]


def test_shards_of_a_classification_set_are_read_in_place(tmp_path: Path) -> None:
    data = read_dataset(shards(tmp_path / "wds"))
    assert (data.classes, data.labels) == (("cat", "dog"), (0, 1, 0))
    assert data.templates == ("a photo of a {}.", "art of a {}.")
    colours = [decode_image(read_image(source), "it").getpixel((0, 0)) for source in data.images]
    assert colours == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_shards_of_a_retrieval_set_have_a_caption_a_line(tmp_path: Path) -> None:
    data = read_dataset(shards(tmp_path / "wds", "retrieval"))
    assert (data.tasks, data.caption_images) == (("retrieval",), (0, 0, 1, 1, 2, 2))
    assert data.captions[-1] == "second of 2"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def broken_folder(folder: Path) -> Path:
    image(folder / "cat" / "a.png")
    (folder / "dog").mkdir()
    return folder


def same_names(folder: Path) -> Path:
    image(folder / "big_cat" / "a.png")
    image(folder / "big cat" / "b.png")
    return folder


def lone_label(folder: Path) -> Path:
    path = shards(folder)
    write_tar(path / "test" / "1.tar", [("s0000009.cls", b"1")], "a")
    return path


def unknown_class(folder: Path) -> Path:
    path = shards(folder)
    write_tar(path / "test" / "1.tar", [("s0000009.cls", b"7"), ("s0000009.png", b"x")], "a")
    return path


# What is wrong: the dataset, how it is named, and how many images are left when such rows are skipped.
BAD: dict[str, tuple[Callable[[Path], Path], str, int]] = {
    "a missing file": (lambda f: table(f, "image,label\na.png,x\ngone.png,y\n"), "data.csv:3: no image at", 1),
    "not UTF-8": (lambda f: table(f, b"image,label\na.png,caf\xe9\nb.png,x\n"), "data.csv:2: not UTF-8 (byte 0xe9", 1),
    "no label": (lambda f: table(f, "image,label\na.png,x\nb.png,\n"), "data.csv:3: no label", 1),
    "too few cells": (lambda f: table(f, "image,label\na.png,x\nb.png\n"), "data.csv:3: 1 columns", 1),
    "a comma without quotes": (
        lambda f: table(f, "image,text\na.png,x\nb.png,a dog, asleep\n"),
        'data.csv:3: 3 columns, the header has 2: put a text with the separator in "quotes"',
        1,
    ),
    "an open quote": (lambda f: table(f, 'image,label\na.png,x\nb.png,"y\n'), "data.csv:3: ", 1),
    "a caption left out": (lambda f: table(f, "image,text\na.png,x\nb.png,\n"), "data.csv:3: no text", 1),
    "the same row twice": (lambda f: table(f, "image,text\na.png,x\na.png,x\n"), "data.csv:3: the same row as", 1),
    "two labels": (lambda f: table(f, "image,label\na.png,x\na.png,y\n"), "data.csv:3: the image has another label", 1),
    "an image twice": (lambda f: table(f, "image,label\na.png,x\na.png,x\n"), "data.csv:3: the same row as", 1),
    "an empty class": (broken_folder, "dog holds no images", 1),
    "a class name twice": (same_names, "the class 'big cat' is also at", 2),
    "a sample without its image": (lone_label, "1.tar/s0000009: no image", 3),
    "a class that has no name": (unknown_class, "1.tar/s0000009: the label '7' is not in", 3),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_and_refused_or_skipped_and_counted(tmp_path: Path, case: str) -> None:
    make, named, left = BAD[case]
    path = make(tmp_path / "data")
    with pytest.raises(InvalidInput) as refused:
        read_dataset(path)
    assert named in str(refused.value)
    assert "`skip_bad=True`" in str(refused.value)
    data = read_dataset(path, skip_bad=True)
    assert (len(data.images), len(data.skipped)) == (left, 1)
    assert named in data.skipped[0]


def truncated(folder: Path) -> Path:
    path = shards(folder)
    shard = path / "test" / "0.tar"
    shard.write_bytes(b"no tar archive")
    return path


def lacking(folder: Path) -> Path:
    path = shards(folder)
    (path / "test" / "1.tar").unlink()
    return path


UNUSABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no header": (lambda f: table(f, "a.png,x\n"), "must name the columns"),
    "an empty table": (lambda f: table(f, "image,label\n"), "holds no rows"),
    "another suffix": (lambda f: table(f, "image,label\n", "data.xlsx"), ".csv, .jsonl, .tsv"),
    "JSON of another kind": (lambda f: table(f, json.dumps({"a": 1}), "data.json"), "data.json: images"),
    "images nowhere": (karpathy, "`images`"),
    "all rows bad": (lambda f: table(f, "image,label\nx.png,x\n"), "no image at"),
    "a damaged shard": (truncated, "0.tar is not a readable tar archive"),
    "a missing shard": (lacking, "no shard at"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_dataset_of_which_nothing_can_be_used_is_refused_even_where_bad_rows_are_skipped(
    tmp_path: Path, case: str
) -> None:
    make, reason = UNUSABLE[case]
    path = make(tmp_path / "data")
    with pytest.raises(InvalidInput) as refused:
        read_dataset(path, skip_bad=True)
    assert reason in str(refused.value)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no split 'val'; it has test, train"):
        read_dataset(karpathy(tmp_path), split="val")
    with pytest.raises(InvalidInput, match="has no split 'val'; it has test"):
        read_dataset(shards(tmp_path / "wds"), split="val")


def test_numbers_are_no_names(tmp_path: Path) -> None:
    path = table(tmp_path / "t", "image,label\na.png,0\nb.png,1\n")
    image(tmp_path / "folders" / "0" / "a.png")
    image(tmp_path / "folders" / "1" / "b.png")
    for dataset, lines in ((path, "0\n1\n"), (tmp_path / "folders", "0 0\n1 1\n")):
        with pytest.raises(InvalidInput, match=r"its labels are numbers \(0, 1\), which are meaningless in a prompt"):
            read_dataset(dataset)
        assert read_dataset(dataset, class_names=write(tmp_path / "names.txt", lines)).classes == ("0", "1")


def test_examples_that_are_not_files_are_named_so(tmp_path: Path) -> None:
    image(tmp_path / "one" / "cat" / "a.png")
    for name, make, reason in (
        ("pipe.png", os.mkfifo, "not a regular file"),
        ("zero.png", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        ("gone.png", lambda path: path.symlink_to("nowhere"), "a link to a file that is not there"),
    ):
        make(tmp_path / "one" / "cat" / name)
        with pytest.raises(InvalidInput, match=f"{name}: {reason}"):
            read_dataset(tmp_path / "one")
        (tmp_path / "one" / "cat" / name).unlink()


def test_a_dataset_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "one" / "cat" / "a.png")
    captions = table(tmp_path / "t", "image,text\na.png,a cat\n")
    line = refusal(run("evaluate", "--dataset", tmp_path / "one"))
    assert "the dataset one has one class, 'cat', which every model predicts; give two or more" in line
    line = refusal(run("evaluate", "--dataset", captions))
    assert "the dataset data has captions of one picture, which every model retrieves" in line


def test_names_that_do_not_fit_the_folders_are_refused(tmp_path: Path) -> None:
    folder = synsets(tmp_path)
    with pytest.raises(InvalidInput, match="has 3 lines and there are 2 class folders"):
        read_dataset(folder, class_names=write(tmp_path / "names.txt", "a\nb\nc\n"))
    with pytest.raises(InvalidInput, match="no name for the class folder n01443537"):
        read_dataset(folder, class_names=write(tmp_path / "names.txt", "n01440764 tench\n"))
    for name, text in (
        ("names.txt", "n01440764 tench\nn01443537 goldfish\nn01440764 shark\n"),
        ("names.json", '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"], "2": ["n01440764", "shark"]}'),
        ("keys.json", '{"n01440764": "tench", "n01443537": "goldfish", "n01440764": "shark"}'),
    ):
        with pytest.raises(InvalidInput, match=r"n01440764.* twice"):
            read_dataset(folder, class_names=write(tmp_path / name, text))


@pytest.mark.parametrize("header", ["image,text,text", "image,image,label", "Image, image ,label"])
def test_two_columns_of_one_name_are_refused(header: str, tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    with pytest.raises(InvalidInput, match=r"data\.csv:1: two columns are called (text|image); rename one"):
        read_dataset(table(tmp_path, f"{header}\na.png,a,b\n"))


def test_options_without_meaning_for_a_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`images` is for a table"):
        read_dataset(synsets(tmp_path), images=tmp_path)
    with pytest.raises(MobileClipDeployError, match="`class_names` needs labels"):
        read_dataset(karpathy(tmp_path), class_names=tmp_path / "names.txt")


def test_templates_may_be_a_list(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "pairs.jsonl").write_text('{"image": "a.png", "label": "cat"}\n', encoding="utf-8")
    (tmp_path / "classes.txt").write_text("cat\n", encoding="utf-8")
    about = {"name": "mine", "pairs": "pairs.jsonl", "classes": "classes.txt", "template": ["a {}", "the {}"]}
    (tmp_path / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    assert read_dataset(tmp_path).templates == ("a {}", "the {}")


@pytest.mark.parametrize("image_column", ["image", "filepath", "filename", "path"])
@pytest.mark.parametrize("other", ["label", "class", "text", "caption", "title"])
def test_columns_of_a_table(image_column: str, other: str, tmp_path: Path) -> None:
    image(tmp_path / "pictures" / "a.png")
    (tmp_path / "data.tsv").write_text(f"{image_column}\t{other}\na.png\tcat\n", encoding="utf-8")
    data = read_dataset(tmp_path / "data.tsv", images=tmp_path / "pictures")
    assert data.tasks == (("classification",) if other in ("label", "class") else ("retrieval",))


def test_json_lines_may_have_a_list_of_texts(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "data.jsonl").write_text('{"image": "a.png", "text": ["one", "two"]}\n', encoding="utf-8")
    assert read_dataset(tmp_path / "data.jsonl").captions == ("one", "two")
