"""Samples to learn rounding from: pictures and captions like those of the app, without those that it is judged by."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mobileclip_deploy.artifacts.towers.calibration import PROMPT_FILES, files_digest, prompt_file, spread_evenly
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.minimum_samples import ROUNDING
from mobileclip_deploy.evaluation.pairs import read_pairs
from mobileclip_deploy.evaluation.user_samples import (
    different_pictures,
    different_texts,
)
from mobileclip_deploy.network.model.image_files import image_files
from mobileclip_deploy.network.model.variants import TowerName, Variant
from mobileclip_deploy.network.samples import read_prompts
from mobileclip_deploy.rounding.methods import check_folder

# 24 gave nano's text tower 23.9 dB, 128 25.1, 935 27.0 (nearest 25.7).
LEAST_CAPTIONS = 500
ADVISED_IMAGES = 256
# More take longer, and gain little.
MOST_IMAGES, MOST_CAPTIONS = 1024, 2048
HELD_BACK = 10
"""One in this many samples is held back: on these it is decided whether the learned rounding is kept."""


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Different inputs to learn rounding from: pixels float32 [N, 3, S, S] in [0, 1] and ids int64 [M, L].

    `name` and `sha256`: of the folder, without its path on this machine. `notes`: sentences for the user.
    """

    name: str
    sha256: str
    pixels: Tensor
    ids: Tensor
    notes: tuple[str, ...] = field(default=())

    def learned(self, tower: TowerName) -> Tensor:
        """Returns the inputs of a tower to learn from."""
        inputs = self._inputs(tower)
        return inputs[torch.arange(len(inputs)) % HELD_BACK != 0]

    def held_back(self, tower: TowerName) -> Tensor:
        """Returns the inputs of a tower that are held back, evenly spaced."""
        return self._inputs(tower)[::HELD_BACK]

    def _inputs(self, tower: TowerName) -> Tensor:
        return self.pixels if tower == "image" else self.ids


def read_calibration_set(
    folder: Path, variant: Variant, towers: Sequence[TowerName], dataset: Dataset | None
) -> CalibrationSet:
    """Reads the towers' samples, and refuses those that the towers will be judged by.

    Pictures are those in the folder and its subfolders. Captions are those of its prompts.json or prompts.txt, else of
    its pairs (docs/evaluation.md). If there are very many, evenly spaced ones are used.

    Args:
        dataset: dataset on which accuracy will be compared; None if there is none.

    Raises:
        UsageError: no such folder.
        InvalidInput: too few pictures or captions, or one that cannot be read; a picture that the gates look at.
    """
    check_folder(folder)
    digest, notes = hashlib.sha256(), []
    size = variant.preprocess.size
    pixels, ids = torch.empty(0, 3, size, size), torch.empty(0, variant.tokens.context_length, dtype=torch.int64)
    if "image" in towers:
        files = spread_evenly(image_files(folder), MOST_IMAGES)
        pictures, repeated = different_pictures(folder, files, ROUNDING, variant, dataset)
        # Channels last: torch's convolutions take a fifth less time, forward and backward.
        pixels = torch.from_numpy(pictures).contiguous(memory_format=torch.channels_last)
        digest.update(files_digest(folder, files))
        if repeated:
            notes.append(f"{folder}: {repeated} pictures repeat others; each counts once.")
        if len(pixels) < ADVISED_IMAGES:
            notes.append(
                f"{folder} holds {len(pixels)} pictures: rounding is learned better from {ADVISED_IMAGES} and more."
            )
    if "text" in towers:
        file = prompt_file(folder)
        texts = [text for row in read_pairs(folder).rows for text in row.texts] if file is None else read_prompts(file)
        ids, left_out = _different_texts(folder, texts, variant, dataset)
        digest.update("\n".join(texts).encode())
        if left_out:
            notes.append(f"{folder}: {left_out} captions are left out: duplicates, or captions of the gates.")
    return CalibrationSet(folder.resolve().name, digest.hexdigest(), pixels, ids, tuple(notes))


def _different_texts(
    folder: Path, texts: Sequence[str], variant: Variant, dataset: Dataset | None
) -> tuple[Tensor, int]:
    """Returns the ids of the different captions without those of the gates, and the number of captions left out."""
    rows, left_out = different_texts(texts, variant, dataset)
    if len(rows) < LEAST_CAPTIONS:
        raise InvalidInput(
            f"{folder} has {len(rows)} different captions ({', '.join(PROMPT_FILES)} or pairs.jsonl) besides the "
            f"gates' own; learned rounding of the text tower needs {LEAST_CAPTIONS} at least"
        )
    return torch.from_numpy(np.stack(spread_evenly(rows, MOST_CAPTIONS))), left_out
