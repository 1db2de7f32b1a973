"""Reader of the .safetensors files that this package writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from mobileclip_deploy.base.files import check_tensors
from mobileclip_deploy.errors import reraising

Arrays = dict[str, npt.NDArray[Any]]


def read_tensors(path: Path, refusal: str) -> tuple[Arrays, dict[str, str]]:
    """Returns tensors by name, and the metadata.

    Args:
        refusal: text of the error if the file cannot be read, with the reason in the place of `REASON`.

    Raises:
        InvalidInput: `refusal`, or the file is not safe to open (`check_tensors`).
    """
    # TypeError: numpy has no bfloat16.
    with reraising(refusal, SafetensorError, OSError, ValueError, TypeError):
        check_tensors(path)
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
