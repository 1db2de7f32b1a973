"""What rounding is learned on: pictures and captions like those of the app, and none of those it is judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.image_sources import ImageSource, read_image
from mobileclip_deploy.files import file_sha256
from mobileclip_deploy.learning.reinforcement.pairs import read_pairs
from mobileclip_deploy.learning.rounding.methods import check_folder
from mobileclip_deploy.model.image_files import image_files
from mobileclip_deploy.model.preprocessing import decode_image, load_batch, preprocess
from mobileclip_deploy.model.tokenizer import tokenize
from mobileclip_deploy.model.variants import TowerName, Variant
from mobileclip_deploy.towers.calibration import PROMPT_FILES
from mobileclip_deploy.towers.samples import calibration_prompts, image_paths, prompts, read_prompts

__all__ = ["HELD_BACK", "CalibrationSet", "read_calibration_set"]

# With 16 pictures nano's image tower became worse than without learning (18.3 dB against 21.2), and was 25.0 on those
# 16 themselves; with 128 pictures 22.8, with 528 23.8. Captions: 24 gave 23.9 dB, 128 25.1, 935 27.0 (nearest 25.7).
LEAST_IMAGES, LEAST_CAPTIONS = 128, 500
ADVISED_IMAGES = 256
# More take longer, and are worth little.
MOST_IMAGES, MOST_CAPTIONS = 1024, 2048
HELD_BACK = 10
"""One in so many is not learned from: on these it is decided whether what was learned is kept."""


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Inputs to learn rounding from, different ones: pixels float32 [N, 3, S, S] in [0, 1] and ids int64 [M, 77].

    `name` and `sha256`: of the folder, without its place on this machine. `notes`: what a user should know, in
    sentences.
    """

    name: str
    sha256: str
    pixels: Tensor
    ids: Tensor
    notes: tuple[str, ...] = field(default=())

    def learned(self, tower: TowerName) -> Tensor:
        """Inputs of a tower that are learned from."""
        inputs = self._inputs(tower)
        return inputs[torch.arange(len(inputs)) % HELD_BACK != 0]

    def held_back(self, tower: TowerName) -> Tensor:
        """Inputs of a tower that are not, spread evenly."""
        return self._inputs(tower)[::HELD_BACK]

    def _inputs(self, tower: TowerName) -> Tensor:
        return self.pixels if tower == "image" else self.ids


def read_calibration_set(
    folder: Path, variant: Variant, towers: Sequence[TowerName], dataset: Dataset | None
) -> CalibrationSet:
    """Read what the towers need, and hold it against what they will be judged by.

    Pictures are those in the folder and below it; captions those of its prompts.json or prompts.txt, else of its pairs
    (docs/datasets.md). Of very many an even share is taken.

    Args:
        dataset: on which accuracy will be compared; None where there is none.

    Raises:
        UsageError: no such folder.
        InvalidInput: too few pictures or captions, or one that cannot be read; a picture that the gates look at.
    """
    check_folder(folder)
    digest, notes = hashlib.sha256(), []
    size = variant.preprocess.size
    pixels, ids = torch.empty(0, 3, size, size), torch.empty(0, variant.tokens.context_length, dtype=torch.int64)
    if "image" in towers:
        files = _spread(image_files(folder), MOST_IMAGES)
        pixels, repeated = _different_pictures(folder, files, variant, dataset)
        for file in files:
            digest.update(f"{file.relative_to(folder).as_posix()}\0{file_sha256(file)}\n".encode())
        if repeated:
            notes.append(f"{folder}: {repeated} pictures repeat others; each counts once.")
        if len(pixels) < ADVISED_IMAGES:
            notes.append(
                f"{folder} holds {len(pixels)} pictures: rounding is learned better from {ADVISED_IMAGES} and more."
            )
    if "text" in towers:
        texts = _captions(folder)
        ids, left_out = _different_texts(folder, texts, variant, dataset)
        digest.update("\n".join(texts).encode())
        if left_out:
            notes.append(f"{folder}: {left_out} captions are left out, they repeat others or are the gates' own.")
    return CalibrationSet(folder.resolve().name, digest.hexdigest(), pixels, ids, tuple(notes))


def _different_pictures(
    folder: Path, files: Sequence[Path], variant: Variant, dataset: Dataset | None
) -> tuple[Tensor, int]:
    """The pictures, each once, and how many repeat others."""
    if len(files) < LEAST_IMAGES:
        raise InvalidInput(
            f"{folder} holds {len(files)} pictures; learned rounding needs {LEAST_IMAGES} at least, like those of the "
            "app (with few it makes a tower worse than `rounding='nearest'`, and the gates may not show it)"
        )
    pixels = load_batch(files, variant.preprocess)
    first: dict[str, int] = {}
    for number, picture in enumerate(pixels):
        first.setdefault(_picture_sha256(picture), number)
    if len(first) < LEAST_IMAGES:
        raise InvalidInput(
            f"{folder} holds {len(first)} different pictures in {len(files)} files; learned rounding needs "
            f"{LEAST_IMAGES} at least"
        )
    judged_by: list[ImageSource] = [*image_paths(), *(dataset.images if dataset is not None else ())]
    for source in judged_by:
        picture = preprocess(decode_image(read_image(source), str(source)), variant.preprocess)
        same = first.get(_picture_sha256(picture))
        if same is not None:
            raise InvalidInput(
                f"{files[same]} is the picture {source}, which the gates look at: what is learned from it would be "
                "judged by it; take it out, or another set"
            )
    # Channels last: torch's convolutions take a fifth less time, forward and backward.
    kept = pixels[list(first.values())].contiguous(memory_format=torch.channels_last)
    return kept, len(files) - len(first)


def _different_texts(
    folder: Path, texts: Sequence[str], variant: Variant, dataset: Dataset | None
) -> tuple[Tensor, int]:
    """The ids of the captions, each once, without those that the gates look at; and how many were left out."""
    length = variant.tokens.context_length
    judged_by = {row.tobytes() for row in tokenize(_judged_texts(dataset), length)}
    different = {row.tobytes(): row for row in tokenize(texts, length)} if texts else {}
    kept = [row for key, row in different.items() if key not in judged_by]
    if len(kept) < LEAST_CAPTIONS:
        raise InvalidInput(
            f"{folder} has {len(kept)} different captions ({', '.join(PROMPT_FILES)} or pairs.jsonl) that are none of "
            f"the gates' own; learned rounding of the text tower needs {LEAST_CAPTIONS} at least"
        )
    chosen = [kept[index] for index in _even(len(kept), MOST_CAPTIONS)]
    return torch.from_numpy(np.stack(chosen)), len(texts) - len(kept)


def _judged_texts(dataset: Dataset | None) -> list[str]:
    asked = [*prompts(), *calibration_prompts()]
    if dataset is None:
        return asked
    classes = [template.replace("{}", name) for template in dataset.templates for name in dataset.classes]
    return [*asked, *dataset.captions, *classes]


def _captions(folder: Path) -> list[str]:
    file = next((folder / name for name in PROMPT_FILES if (folder / name).is_file()), None)
    if file is not None:
        return read_prompts(file)
    return [text for row in read_pairs(folder).rows for text in row.texts]


def _picture_sha256(picture: Tensor) -> str:
    return hashlib.sha256(picture.numpy().tobytes()).hexdigest()


def _spread(files: Sequence[Path], most: int) -> list[Path]:
    return [files[index] for index in _even(len(files), most)]


def _even(count: int, most: int) -> Iterable[int]:
    return range(count) if count <= most else (index * count // most for index in range(most))
