"""Faults of the pipeline around a model, planted into how nano's bundle is run: `evaluate`'s figures show each.

What a bundle says to apps is held to its checkpoint in tests/faults/test_companion_faults.py.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import Exports

from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.evaluation.evaluate import Measurement, Measuring, measure
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.pictures.embedder import Embedder, bundle_embedder

GATE = 0.5
FIGURES = ("top1", "image_to_text_recall@1")
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32).reshape(3, 1, 1)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32).reshape(3, 1, 1)


@functools.cache
def half() -> Dataset:
    """Every second of the packaged images, of which each has one caption."""
    whole = builtin_dataset()
    names = ("images", "rows", "captions", "labels")
    parts = {name: getattr(whole, name)[::2] for name in names}
    return dataclasses.replace(whole, **parts, caption_images=tuple(range(len(parts["images"]))))


@dataclasses.dataclass
class Sound:
    """The bundle as it should be run, and its figures."""

    embedder: Embedder
    measured: Measurement
    cache: Path

    def drop(self, embedder: Embedder) -> float:
        """Points that another way of running it loses, of top-1 or of recall@1, whichever loses more."""
        found = measure(embedder, half(), how=Measuring(cache=self.cache))
        return max(-paired_difference(found.hits[name], self.measured.hits[name]).value for name in FIGURES)


@pytest.fixture(scope="module")
def sound(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> Sound:
    embedder, cache = bundle_embedder(exports.bundle("onnx", "fp16")), tmp_path_factory.mktemp("cache")
    return Sound(embedder, measure(embedder, half(), how=Measuring(cache=cache)), cache)


def planted(sound: Sound, tower: str, **changes: object) -> Embedder:
    """An embedder with a fault in one tower; nothing of that tower is taken from the sound one's cache."""
    names = {"image": sound.embedder.artifact("image"), "text": sound.embedder.artifact("text"), tower: "planted"}
    # Without `thread_safe_images`, which would answer in the place of planted `images`.
    return dataclasses.replace(sound.embedder, artifact=names.__getitem__, thread_safe_images=None, **changes)  # type: ignore[arg-type]


def test_the_sound_bundle_loses_nothing(sound: Sound) -> None:
    assert sound.drop(sound.embedder) == 0


@pytest.mark.parametrize(
    ("tower", "changed"),
    [
        pytest.param("image", lambda pixels: (pixels - MEAN) / STD, id="mean and std of another model"),
        pytest.param("image", lambda pixels: np.ascontiguousarray(pixels[:, ::-1]), id="swapped channels"),
        pytest.param(
            *("text", lambda ids: np.where(ids == 49406, 0, ids)),
            id="no start of text",
            marks=pytest.mark.slow,  # the preprocessing of another model, above
        ),
    ],
)
def test_a_fault_of_preprocessing_is_seen(sound: Sound, tower: str, changed: Any) -> None:
    run = getattr(sound.embedder, f"{tower}s")
    assert sound.drop(planted(sound, tower, **{f"{tower}s": lambda given: run(changed(given))})) > GATE


def test_prompts_that_are_not_normalised_are_seen(sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobileclip_deploy.pictures.embedding.unit", lambda values: values)
    assert sound.drop(sound.embedder) > GATE
