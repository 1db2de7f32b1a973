"""Reading checkpoint files without running anything in them: .pt by torch's restricted unpickler, .safetensors."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobileclip_deploy.errors import CheckpointError

__all__ = ["TensorFile", "open_tensors"]

WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIX = "module."


@dataclass(frozen=True)
class TensorFile:
    """Named tensors of a file, memory-mapped: shapes are known, values are read when asked for."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def open_tensors(path: Path) -> TensorFile:
    """Open a checkpoint file; what is in it is told by its first bytes, not by its name.

    Raises:
        CheckpointError: the file is missing, a folder, empty, truncated, of another format, holds pickled code, or
            holds no tensors.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the checkpoint file in it (.pt or .safetensors)")
    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes)")
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _open_torch(path, zipped=head.startswith(b"PK"))
    if len(head) == 9 and head[8:] == b"{":
        return _open_safetensors(path)
    raise CheckpointError(f"{path} is neither a torch checkpoint nor a safetensors file")


def _open_safetensors(path: Path) -> TensorFile:
    try:
        handle = safe_open(path, framework="pt")
        names = {_plain(name): name for name in handle.keys()}  # noqa: SIM118 (not a mapping)
        shapes = {plain: tuple(handle.get_slice(name).get_shape()) for plain, name in names.items()}
        metadata = dict(handle.metadata() or {})
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path} is not a valid safetensors file: {_first_line(error)}") from error
    if not shapes:
        raise CheckpointError(f"{path} holds no tensors")
    return TensorFile(path, shapes, lambda name: handle.get_tensor(names[name]), metadata)


def _open_torch(path: Path, zipped: bool) -> TensorFile:
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise CheckpointError(
                f"{path} holds pickled code ({code.group(1)}), which is never run; save its state_dict alone"
            ) from error
        raise CheckpointError(f"{path} is not a readable torch checkpoint: {_first_line(error)}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is truncated or not a torch checkpoint: {_first_line(error)}") from error
    tensors = _tensors(data)
    if not tensors:
        raise CheckpointError(f"{path} holds no state dict ({_contents(data)})")
    return TensorFile(path, {name: tuple(value.shape) for name, value in tensors.items()}, tensors.__getitem__)


def _tensors(data: Any) -> dict[str, Tensor]:
    if not isinstance(data, Mapping):
        return {}
    for wrapper in WRAPPERS:
        inner = data.get(wrapper)
        if isinstance(inner, Mapping) and inner:
            return _tensors(inner)
    return {_plain(str(name)): value for name, value in data.items() if isinstance(value, Tensor)}


def _plain(name: str) -> str:
    return name.removeprefix(PREFIX)


def _contents(data: Any) -> str:
    if isinstance(data, Mapping):
        return "its keys: " + ", ".join(json.dumps(str(key)) for key in list(data)[:8])
    return f"it is a {type(data).__name__}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
