"""Small datasets in every form that is read, of images in one colour each."""

import json
from pathlib import Path

from packed import saved, write_tar
from PIL import Image


def image(path: Path, colour: str = "black") -> Path:
    """A 4 x 4 image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)
    return path


def table(folder: Path, text: str | bytes, name: str = "data.csv") -> Path:
    """A table, and beside it the images a.png, b.png and c.png."""
    for number, letter in enumerate("abc"):
        image(folder / f"{letter}.png", ("red", "green", "blue")[number])
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def karpathy(folder: Path, dataset: str = "flickr30k", filepath: str = "") -> Path:
    """Three images, the last of another split, with two sentences each, as Karpathy's files have them."""
    entries = []
    for number, split in enumerate(("test", "test", "train")):
        extra = {"filepath": filepath} if filepath else {}
        sentences = [
            {"tokens": ["a"], "raw": f"Sentence {k} of {number}.", "imgid": number, "sentid": 2 * number + k}
            for k in (0, 1)
        ]
        entries.append({"filename": f"{number}.png", "split": split, "imgid": number, "sentences": sentences} | extra)
    path = folder / f"dataset_{dataset}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": entries, "dataset": dataset}), encoding="utf-8")
    return path


def shards(folder: Path, kind: str = "classification") -> Path:
    """A folder as CLIP_benchmark's webdataset_builder writes it: two shards, three samples, two classes."""
    (folder / "test").mkdir(parents=True)
    if kind == "retrieval":
        (folder / "dataset_type.txt").write_text("retrieval\n", encoding="utf-8")
    else:
        (folder / "classnames.txt").write_text("cat\ndog\n", encoding="utf-8")
        (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\nart of a {c}.\n")
    (folder / "test" / "nshards.txt").write_text("2\n", encoding="utf-8")
    for shard, numbers in enumerate(((0, 1), (2,))):
        members = []
        for number in numbers:
            if kind == "retrieval":
                members.append((f"s{number:07d}.txt", f"first of {number}\nsecond of {number}\n".encode()))
            else:
                members.append((f"s{number:07d}.cls", str(number % 2).encode()))
            picture = Image.new("RGB", (4, 4), ("red", "green", "blue")[number])
            content = saved(lambda stream, picture=picture: picture.save(stream, "webp", lossless=True))
            members.append((f"s{number:07d}.webp", content))
        write_tar(folder / "test" / f"{shard}.tar", members)
    return folder
