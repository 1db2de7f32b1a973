"""Reading checkpoint files without running anything in them: what a file holds is told by its first bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobileclip_deploy.checkpoints import pickles
from mobileclip_deploy.checkpoints.weights_files import container_of
from mobileclip_deploy.errors import CheckpointError, InvalidInput, worded
from mobileclip_deploy.files import check_tensors

__all__ = ["TensorFile", "open_tensors", "plain_names"]


@dataclass(frozen=True)
class TensorFile:
    """Named tensors of a file, memory-mapped: shapes are known, values are read when asked for.

    `notes` are sentences a user should see: what was passed over, and why. `traces`: what training leaves in a file
    beside the weights, in words.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()

    def renamed(self, names: Mapping[str, str]) -> TensorFile:
        """The same tensors under other names: {new: present}; those not named are left out."""
        shapes = {new: self.shapes[present] for new, present in names.items()}
        return replace(self, shapes=shapes, read=lambda name: self.read(names[name]))


def open_tensors(path: Path) -> TensorFile:
    """Open a checkpoint file, .pt or .safetensors whatever its name says.

    Raises:
        CheckpointError: the file is missing, not a file, empty, truncated, of another format, holds pickled code, or
            holds no tensors.
    """
    container = container_of(path)
    if container == "safetensors":
        return _open_safetensors(path)
    content = pickles.read(path, zipped=container == "zip")
    names = _plain_names(path, content.tensors)
    shapes = {plain: tuple(content.tensors[name].shape) for plain, name in names.items()}
    traces = (*content.traces, *_prefix(names))
    reader = _reader(path, content.tensors.__getitem__, names)
    return TensorFile(path, shapes, reader, notes=content.notes, traces=traces)


def _open_safetensors(path: Path) -> TensorFile:
    try:
        check_tensors(path)
        handle: Any = safe_open(path, framework="pt")  # safetensors has no types
        names = _plain_names(path, handle.keys())
        shapes = {plain: tuple(handle.get_slice(name).get_shape()) for plain, name in names.items()}
        metadata = dict(handle.metadata() or {})
    except InvalidInput as error:
        raise CheckpointError(f"{error}; download or save it again") from error
    except (SafetensorError, OSError, ValueError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is not a valid safetensors file: {worded(error)}; download or save it again"
        ) from error
    if not shapes:
        raise CheckpointError(f"{path} holds no tensors; give a checkpoint with weights")
    return TensorFile(path, shapes, _reader(path, handle.get_tensor, names), metadata, traces=_prefix(names))


def _reader(path: Path, get: Callable[[str], Tensor], names: Mapping[str, str]) -> Callable[[str], Tensor]:
    def read(name: str) -> Tensor:
        try:
            return get(names[name])
        except Exception as error:  # what a library raises for a damaged file is its own affair
            raise CheckpointError(f"{path}: {name} cannot be read; the file is damaged, get it again") from error

    return read


def _prefix(names: Mapping[str, str]) -> tuple[str, ...]:
    """The prefix that training on several processes leaves, if one name has it."""
    return ("the prefix `module.`",) if any(name.startswith("module.") for name in names.values()) else ()


def _plain_names(path: Path, names: Mapping[str, object] | list[str]) -> dict[str, str]:
    plain = plain_names(list(names))
    if len(plain) < len(names):
        raise CheckpointError(f"{path} holds weights twice, with and without the prefix `module.`; save one of the two")
    return plain


# Prefixes that training code puts before every key: DistributedDataParallel, torch.compile, Lightning, TinyCLIP.
# TinyCLIP keeps its towers and the temperature in modules of their own.
WRAPPERS = ("module.", "_orig_mod.", "_image_encoder.", "_text_encoder.", "_logit_scale.")
# Stripped only where every key has it: `model.` may also be a part of a layout's own names.
COMMON = ("model.", "clip.", "net.")


def plain_names(names: Sequence[str]) -> dict[str, str]:
    """The names without wrappers' prefixes: {plain: as in the file}. Shorter than `names` when two become one."""
    stripped = {_unwrapped(name): name for name in names}
    for prefix in COMMON:
        if stripped and all(plain.startswith(prefix) for plain in stripped):
            return {_unwrapped(plain.removeprefix(prefix)): name for plain, name in stripped.items()}
    return stripped


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name[name.index(".") + 1 :]
    return name
