"""Looks at the same pictures: one where it tells, all views where it does not, and what each shows."""

from pathlib import Path

import numpy as np
import pytest
from evaluation.embedders import by_colour
from numpy.typing import NDArray
from PIL import Image

from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.looks import Looks, paired_looks
from mobileclip_deploy.network.model.scores import Scores
from mobileclip_deploy.network.model.variants import load_variant
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.pictures.image_sources import VIEWS, ImageSource, ImageView

Floats = NDArray[np.float32]
GREYS = 40


def test_a_view_is_a_part_of_the_picture() -> None:
    picture = Image.fromarray(np.arange(900).reshape(30, 30).astype(np.uint8))
    assert ImageView(template="{}").of(picture) is picture
    assert np.array_equal(np.asarray(ImageView(0.1, 0.2, 0.9, 1.0).of(picture)), np.asarray(picture)[6:, 3:27])
    assert ImageView(0.9, 0.9, 0.9, 0.9).of(picture).size == (1, 1)
    assert len({view.of(picture).tobytes() for view in VIEWS}) == len(VIEWS)


def embedder(noise: float, calls: list[str]) -> Embedder:
    """Tells greys apart by their level, off by at most `noise` levels of a grey wheel; counts what it is asked."""
    random = np.random.default_rng(0)

    def wheel(levels: Floats) -> Floats:
        return np.stack([np.cos(levels), np.sin(levels)], axis=1).astype(np.float32)

    def images(pixels: Floats) -> Floats:
        calls.append("image")
        levels = pixels.mean(axis=(1, 2, 3)) * 255 / 256 * 2 * np.pi
        return wheel(levels + noise * random.uniform(-1, 1, len(levels)))

    def texts(ids: NDArray[np.int64]) -> Floats:
        calls.append("text")
        return wheel(np.arange(len(ids)) / GREYS * 2 * np.pi)

    small = load_variant("nano").preprocess.model_copy(update={"size": 8})
    return by_colour(images=images, texts=texts, preprocess=small, scores=Scores(10.0))


@pytest.fixture
def greys(tmp_path: Path) -> Dataset:
    """Forty plain pictures, each with its caption."""
    files: list[ImageSource] = []
    for number in range(GREYS):
        path = tmp_path / f"{number}.png"
        Image.new("L", (20, 20), round(number * 256 / GREYS)).save(path)
        files.append(path)
    rows = tuple(map(str, range(GREYS)))
    return Dataset("greys", tuple(files), rows, rows, tuple(range(GREYS)))


def test_there_is_a_second_look_only_where_the_first_leaves_it_open(greys: Dataset) -> None:
    calls = list[str]()
    own, found = Looks(embedder(0, []), greys), Looks(embedder(0, calls), greys)
    same = paired_looks(own, found, ("image_to_text_recall@1", "top1"), 20.0)
    assert (same.outcome(20.0), same.divergence, len(found.cached)) == ("passed", 0.0, 1)
    assert list(same.losses) == ["image_to_text_recall@1"]  # there are no classes
    assert calls == ["image", "text"]
    open_ = paired_looks(own, found, ("image_to_text_recall@1",), 1.0)
    assert (open_.outcome(1.0), len(found.cached)) == ("undecided", len(VIEWS))
    assert calls == ["image", "text", *["image"] * (len(VIEWS) - 1)]  # captions are embedded once
    assert paired_looks(own, found, ("image_to_text_recall@1",), 1.0, exact=True).outcome(1.0) == "passed"


def test_a_loss_that_one_look_shows_has_failed(greys: Dataset) -> None:
    own, found = Looks(embedder(0, []), greys), Looks(embedder(1.0, []), greys)
    worse = paired_looks(own, found, ("image_to_text_recall@1",), 0.5)
    assert (worse.outcome(0.5), len(found.cached)) == ("failed", 1)
    assert worse.divergence > 0.1
    assert worse.describe(0.5).endswith(f"; KL {worse.divergence:.2g} nats")
