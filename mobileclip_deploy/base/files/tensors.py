"""Reader and writer of .safetensors files: whole or not at all, and the same bytes for the same content."""

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mobileclip_deploy.base.files import check_tensors, replacing
from mobileclip_deploy.errors import DiskFull, InvalidInput, first_sentence, reraising

Arrays = dict[str, npt.NDArray[Any]]
LENGTH = struct.Struct("<Q")


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


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes named arrays to a .safetensors file.

    Raises:
        InvalidInput: the folder is missing or not writable, or the disk is full (`DiskFull`). No partial file is left.
    """
    with written(path) as partial:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, partial, dict(metadata))
        sort_metadata(partial)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yields a partial file as `replacing` does, and turns write errors into one line."""
    try:
        with replacing(path) as partial:
            yield partial
            partial.chmod(0o644)  # safetensors makes files that only their owner may read
    except RuntimeError as error:  # torch reports a full quota as the place in its C++ code
        raise DiskFull(str(path.parent)) from error
    except SafetensorError as error:
        reason = first_sentence(error, 160)
        raise InvalidInput(f"cannot write {path}: safetensors says {reason!r}; choose another place") from error
    except OSError as error:
        if not path.parent.exists():
            raise InvalidInput(f"there is no folder {path.parent}; make it, or choose another `output`") from error
        raise InvalidInput(f"cannot write {path}: {error.strerror}; choose another place or make room") from error


@dataclass(frozen=True)
class RowParts:
    """Float32 rows of shape [N, D]. `parts` yields some rows at a time, in order, and can be called repeatedly."""

    shape: tuple[int, ...]
    parts: Callable[[], Iterator[npt.NDArray[np.float32]]]


def write_rows(path: Path, name: str, rows: RowParts, metadata: Mapping[str, str]) -> None:
    """Writes one tensor [N, D] to a .safetensors file with the bytes of `write_tensors`, one part at a time in memory.

    Raises:
        InvalidInput: as `write_tensors`.
    """
    entry = {"dtype": "F32", "shape": list(rows.shape), "data_offsets": [0, 4 * math.prod(rows.shape)]}
    header = json.dumps(
        {"__metadata__": dict(sorted(metadata.items())), name: entry}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    header = header.ljust(-(-len(header) // LENGTH.size) * LENGTH.size)
    with written(path) as partial, partial.open("wb") as stream:
        stream.write(LENGTH.pack(len(header)) + header)
        for part in rows.parts():
            part.tofile(stream)


def sort_metadata(path: Path) -> None:
    """Sorts the metadata in place: safetensors writes it in an order that changes from run to run."""
    with path.open("r+b") as stream:
        (length,) = LENGTH.unpack(stream.read(LENGTH.size))
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        stream.seek(LENGTH.size)
        stream.write(text.ljust(length))
