"""Measuring: figures a reader can check by hand, prompt ensembles, bad images, and the cache that resumes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from evaluation.datasets import image, shards, table
from evaluation.embedders import by_colour
from PIL import Image

from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.evaluation.evaluate import Measuring, measure
from mobileclip_deploy.evaluation.templates import parse_templates
from mobileclip_deploy.pictures.cache import SHARD, EmbeddingStore
from mobileclip_deploy.pictures.embedding import embed_classes


def counted(embedder: object, tower: str) -> int:
    return getattr(embedder, tower).inputs


def test_classes_hits_and_confusions_are_what_the_colours_say(tmp_path: Path) -> None:
    data = read_dataset(table(tmp_path, "image,label\na.png,red\nb.png,blue\nc.png,blue\n"))
    image(tmp_path / "b.png", "red")
    result = measure(by_colour(), data).result
    assert result.figures["top1"].value == pytest.approx(100 * 2 / 3)
    assert [(entry.name, entry.images, entry.top1) for entry in result.per_class] == [("blue", 2, 50), ("red", 1, 100)]
    assert result.confusion["red"] == {"red": 1}
    assert result.confusion["blue"] == {"blue": 1, "red": 1}
    assert result.most_confused(5) == [("blue", "red", 1)]


def test_of_several_captions_the_best_counts(tmp_path: Path) -> None:
    text = "image,text\na.png,nothing\na.png,red\nb.png,green\nc.png,blue\n"
    found = measure(by_colour(), read_dataset(table(tmp_path, text)))
    assert found.result.figures["image_to_text_recall@1"].value == 100
    assert found.result.figures["text_to_image_recall@1"].value == 75  # "nothing" is nothing's
    assert (found.result.captions, found.result.mean_ranks["image_to_text"]) == (4, 1)


def test_an_ensemble_is_the_mean_of_unit_prompts_at_unit_length() -> None:
    embedder = by_colour()
    both = embed_classes(embedder, ["red", "blue"], ["a {}", "green {}"])
    single = [embed_classes(embedder, ["red", "blue"], [template]) for template in ("a {}", "green {}")]
    total = single[0] + single[1]
    np.testing.assert_allclose(both, total / np.linalg.norm(total, axis=1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, rtol=1e-6)


def test_the_dataset_s_templates_are_used_and_those_given_come_first(tmp_path: Path) -> None:
    data = read_dataset(shards(tmp_path / "wds"))
    assert measure(by_colour(), data).result.templates == ("a photo of a {}.", "art of a {}.")
    assert measure(by_colour(), data, how=Measuring(templates=("just {}",))).result.templates == ("just {}",)


def test_templates_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a {c}.\nthe {}\n", encoding="utf-8")
    assert parse_templates(["my {}", str(tmp_path / "t.txt"), "my {}"]) == ("my {}", "a {}.", "the {}")
    with pytest.raises(UsageError, match=r"has no \{\}"):
        parse_templates(["no place"])
    (tmp_path / "t.txt").write_text("a {c}.\nthe\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"t\.txt:2"):
        parse_templates([str(tmp_path / "t.txt")])


def test_an_image_that_cannot_be_decoded_names_its_row_or_is_left_out(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label,text\na.png,red,red\nb.png,blue,x\nc.png,blue,blue\n")
    (tmp_path / "b.png").write_bytes(b"no image")
    data = read_dataset(path)
    with pytest.raises(InvalidInput, match=r"data\.csv:3: .*b\.png: not an image .*`skip_bad=True`"):
        measure(by_colour(), data)
    result = measure(by_colour(), data, how=Measuring(skip_bad=True)).result
    assert (result.images, result.captions, len(result.skipped)) == (2, 2, 1)
    assert result.figures["top1"].value == result.figures["image_to_text_recall@1"].value == 100


def test_a_dataset_of_which_no_image_can_be_used_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label\na.png,red\n")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InvalidInput, match="all 1 images"):
        measure(by_colour(), read_dataset(path), how=Measuring(skip_bad=True))


def many(folder: Path, count: int) -> Path:
    """A class folder of images that all differ."""
    for number in range(count):
        path = image(folder / ("even" if number % 2 == 0 else "odd") / f"{number:04d}.png")
        Image.new("RGB", (1, 1), (number % 256, number // 256, 7)).save(path)
    return folder


def test_a_second_run_takes_everything_from_the_cache(tmp_path: Path) -> None:
    data = read_dataset(many(tmp_path / "data", 70))
    first = by_colour()
    without = measure(by_colour(), data)
    assert measure(first, data, how=Measuring(cache=tmp_path / "cache")).result == without.result
    assert counted(first, "images") == 70
    again = by_colour()
    assert measure(again, data, how=Measuring(cache=tmp_path / "cache")).result == without.result
    assert (counted(again, "images"), counted(again, "texts")) == (0, 0)


def test_a_stopped_run_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    data = read_dataset(many(tmp_path / "data", 200))
    with pytest.raises(KeyboardInterrupt):
        measure(by_colour(limit=150), data, how=Measuring(cache=tmp_path / "cache"))
    rest = by_colour()
    found = measure(rest, data, how=Measuring(cache=tmp_path / "cache"))
    assert counted(rest, "images") == 200 - 128  # the batches that were done
    assert found.result == measure(by_colour(), data).result


CHANGES: dict[str, dict[str, object]] = {
    "another artifact": {"artifact": lambda tower: "1"},
    "another embedding space": {"embedding_space": "colours-1"},
    "another engine": {"engine": "numpy 2"},
    "another interpolation": {},
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_taken_from_the_cache_of(tmp_path: Path, change: str) -> None:
    data = read_dataset(many(tmp_path / "data", 4))
    measure(by_colour(), data, how=Measuring(cache=tmp_path / "cache"))
    other = by_colour(**CHANGES[change])
    if not CHANGES[change]:
        other = dataclasses.replace(other, preprocess=other.preprocess.model_copy(update={"interpolation": "bicubic"}))
    measure(other, data, how=Measuring(cache=tmp_path / "cache"))
    assert counted(other, "images") == 4


def test_an_image_that_was_changed_under_its_name_is_embedded_again(tmp_path: Path) -> None:
    path = many(tmp_path / "data", 4)
    measure(by_colour(), read_dataset(path), how=Measuring(cache=tmp_path / "cache"))
    Image.new("RGB", (1, 1), "red").save(path / "odd" / "0001.png")
    again = by_colour()
    measure(again, read_dataset(path), how=Measuring(cache=tmp_path / "cache"))
    assert counted(again, "images") == 1


def test_a_killed_process_loses_what_it_had_not_added(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, {"artifact": "a"})
    names = [f"{number:064d}" for number in range(SHARD + 3)]
    for batch in (names[:SHARD], names[SHARD:]):
        store.add(batch, np.zeros((len(batch), 2), np.float32))  # and then nothing more: no flush
    again = EmbeddingStore(tmp_path, {"artifact": "a"})
    assert [name in again for name in names] == [True] * SHARD + [False] * 3


def test_a_path_that_sqlite_does_not_open_is_refused_as_too_long(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 100] * 5)
    with pytest.raises(InvalidInput, match="more than 480 bytes, which SQLite does not open; choose a shorter one"):
        EmbeddingStore(folder, {})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named_not_used(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, {"artifact": "a"})
    store.add(["x"], np.zeros((1, 2), np.float32))
    store.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InvalidInput, match="is damaged; delete it"):
        EmbeddingStore(tmp_path, {"artifact": "a"})


def test_top5_counts_the_five_nearest_classes(tmp_path: Path) -> None:
    for letter in "abcdefg":
        image(tmp_path / letter / f"{letter}.png", f"#0000{ord(letter):02x}")
    nearest = np.linspace(0.9, 0.3, 7, dtype=np.float32)  # of every image: a first, then b, and so on
    embedder = by_colour(
        images=lambda pixels: np.stack([nearest] * len(pixels)), texts=lambda ids: np.eye(7, dtype="f")
    )
    figures = measure(embedder, read_dataset(tmp_path)).result.figures
    assert figures["top1"].value == pytest.approx(100 / 7)
    assert figures["top5"].value == pytest.approx(500 / 7)
