"""Writing of checkpoints: whole or not at all, and the same bytes for the same content."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mobileclip_deploy.base.files import replacing
from mobileclip_deploy.errors import DiskFull, InvalidInput, first_sentence

LENGTH = struct.Struct("<Q")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes named tensors: .safetensors with the metadata, any other suffix by `torch.save` without.

    Raises:
        InvalidInput: the folder is missing or not writable, or the disk is full (`DiskFull`). No partial file is left.
    """
    with _written(path) as partial:
        if path.suffix == ".safetensors":
            save_file({name: value.contiguous() for name, value in tensors.items()}, partial, metadata=dict(metadata))
            _sort_metadata(partial)
        else:
            torch.save({name: value.clone() for name, value in tensors.items()}, partial)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
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
    with _written(path) as partial, partial.open("wb") as stream:
        stream.write(LENGTH.pack(len(header)) + header)
        for part in rows.parts():
            part.tofile(stream)


def _sort_metadata(path: Path) -> None:
    """Sorts the metadata in place: safetensors writes it in an order that changes from run to run."""
    with path.open("r+b") as stream:
        (length,) = LENGTH.unpack(stream.read(LENGTH.size))
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        stream.seek(LENGTH.size)
        stream.write(text.ljust(length))
