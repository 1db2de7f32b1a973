"""Calibration: the inputs on which precisions with quantized activations measure their ranges."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.files import content_sha256, file_sha256
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.network.model.image_files import IMAGE_SUFFIXES, image_files
from mobileclip_deploy.network.model.precision import PRECISIONS, precision_of
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TowerName, Variant
from mobileclip_deploy.network.samples import calibration_prompts, image_paths, read_prompts

T = TypeVar("T")
# More images change the ranges little, and each takes as long as one evaluation.
LIMIT = 128
PROMPT_FILES = ("prompts.json", "prompts.txt")


def check_calibration(precisions: dict[TowerName, str], folder: Path) -> None:
    """Refuses a calibration folder that would not be used, or that has no images.

    Raises:
        UsageError: no precision measures activations.
        InvalidInput: not a folder, or no image in it.
    """
    if not any(precision_of(name).calibrated for name in precisions.values()):
        calibrated = " and ".join(name for name, precision in PRECISIONS.items() if precision.calibrated)
        unused = ", ".join(sorted(set(precisions.values())))
        raise UsageError(f"{unused} uses no calibration images ({calibrated} do); leave `calibration` out")
    _images(folder)


def calibration_inputs(variant: Variant, tower: TowerName, folder: Path | None) -> npt.NDArray[np.generic]:
    """Returns calibration inputs of a tower: pixels float32 [N, 3, S, S] in [0, 1], or ids int64 [M, L].

    Images: those in `folder` and its subfolders, at most `LIMIT`, evenly spaced over their sorted names. Prompts: from
    its prompts.json or prompts.txt. The packaged samples replace what the folder does not have, or everything if it is
    None.

    Raises:
        InvalidInput: not a folder, no image in it, or a file that cannot be read.
    """
    if tower == "image":
        from mobileclip_deploy.network.model.preprocessing import (
            load_batch,  # torch: not for a refusal of `check_calibration`
        )

        chosen = image_paths() if folder is None else spread_evenly(_images(folder), LIMIT)
        return load_batch(chosen, variant.preprocess)
    file = None if folder is None else prompt_file(folder)
    texts = calibration_prompts() if file is None else read_prompts(file)
    return encode(texts[:LIMIT], variant.tokens)


def calibration_digest(folder: Path) -> str:
    """Returns the sha256 over the names and contents of the images and prompts that would be used.

    Raises:
        InvalidInput: not a folder, or no image in it.
    """
    texts = prompt_file(folder)
    files = [*spread_evenly(_images(folder), LIMIT), *([] if texts is None else [texts])]
    return content_sha256(files_digest(folder, files))


def files_digest(folder: Path, files: Sequence[Path]) -> bytes:
    """Returns bytes that identify files of a folder: their names and SHA-256, without the folder's own path."""
    return "".join(f"{file.relative_to(folder).as_posix()}\0{file_sha256(file)}\n" for file in files).encode()


def prompt_file(folder: Path) -> Path | None:
    """Returns the file of prompts in a folder. None if there is none."""
    return next((folder / name for name in PROMPT_FILES if (folder / name).is_file()), None)


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InvalidInput(f"`calibration` {folder}: no such folder; give one with images like those of the app")
    images = image_files(folder)
    if not images:
        raise InvalidInput(f"`calibration` {folder}: no image in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return images


def spread_evenly(rows: Sequence[T], most: int) -> list[T]:
    """Returns at most `most` of the rows, evenly spaced."""
    total = len(rows)
    return list(rows) if total <= most else [rows[index * total // most] for index in range(most)]
