"""Checkpoints of a training, written whole or not at all, and its log as CSV."""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.files import replacing, write_whole

__all__ = ["CHECKPOINT", "LOG", "WEIGHTS", "LogRow", "read_state", "write_log", "write_state"]

CHECKPOINT, LOG, WEIGHTS = "checkpoint.pt", "log.csv", "weights.safetensors"


@dataclass(frozen=True)
class LogRow:
    """How far a training is: mean loss since the last row, learning rate, the factor of the cosines, and recall@1 of
    the averaged weights on the held-out set in percent, both ways."""

    step: int
    samples: int
    loss: float
    learning_rate: float
    scale: float
    image_to_text_recall: float
    text_to_image_recall: float


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Save everything that a training needs to go on."""
    with replacing(folder / CHECKPOINT) as partial:
        torch.save(state, partial)


def read_state(folder: Path) -> dict[str, Any] | None:
    """What `write_state` saved; None where nothing was.

    Raises:
        InvalidInput: damaged, or no file.
    """
    file = folder / CHECKPOINT
    if not file.exists():
        return None
    if not file.is_file():
        raise InvalidInput(f"{file} is not a regular file; remove it to train from the beginning")
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise InvalidInput(f"{file} is damaged; remove it to train from the beginning") from error
    return state


def write_log(folder: Path, rows: Sequence[LogRow]) -> None:
    """All rows so far."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(LogRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows([asdict(row) for row in rows])
    write_whole(folder / LOG, text.getvalue())
