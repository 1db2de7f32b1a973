"""Reading of checkpoint files without executing anything in them. The first bytes decide the format. torch's files are
read through its restricted unpickler, memory-mapped, and the state dict is found in them."""

from __future__ import annotations

import contextlib
import itertools
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mobileclip_deploy.base.files import check_tensors
from mobileclip_deploy.errors import REASON, CheckpointError, InvalidInput, readable_reason, reraising
from mobileclip_deploy.network.checkpoints.weights_files import container_of, shard_files

Made = tuple[tuple[int, ...], Callable[[], Tensor]]
"""Shape of a tensor, and the function that reads it."""


@dataclass(frozen=True)
class TensorFile:
    """Named tensors of a file, memory-mapped: shapes are known, values are read on demand.

    `notes` are sentences for the user: what was passed over, and why. `traces`: entries that training leaves in a file
    next to the weights, in words.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()

    def renamed(self, names: Mapping[str, str]) -> TensorFile:
        """Returns the same tensors under other names: {new: present}; others are left out."""
        shapes = {new: self.shapes[present] for new, present in names.items()}
        return replace(self, shapes=shapes, read=lambda name: self.read(names[name]))

    def remade(self, made: Mapping[str, Made]) -> TensorFile:
        """Returns the file with these tensors in place of its own, from which they are computed."""
        shapes = {name: shape for name, (shape, _) in made.items()}
        return replace(self, shapes=shapes, read=lambda name: made[name][1]())


def open_tensors(path: Path) -> TensorFile:
    """Opens a checkpoint file, .pt or .safetensors, whatever its name.

    Raises:
        CheckpointError: the file is missing, not a file, empty, truncated, of another format, holds pickled code, or
            holds no tensors.
    """
    container = container_of(path)
    if container == "safetensors":
        return _open_safetensors(path)
    if container == "shards":
        return _open_shards(path)
    return _open_pickle(path, zipped=container == "zip")


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
            f"{path} is not a valid safetensors file: {readable_reason(error)}; download or save it again"
        ) from error
    if not shapes:
        raise CheckpointError(f"{path} holds no tensors; give a checkpoint with weights")
    return TensorFile(path, shapes, _reader(path, handle.get_tensor, names), metadata, traces=_prefix(names))


def _open_shards(path: Path) -> TensorFile:
    """Opens every shard of an index, as one file. Raises as `open_tensors`, or if two shards have the same tensor."""
    files = [_open_safetensors(shard) for shard in shard_files(path)]
    owners = {name: file for file in files for name in file.shapes}
    if len(owners) < sum(len(file.shapes) for file in files):
        raise CheckpointError(f"{path}: two shards have the same tensor; save the model again")
    shapes = {name: file.shapes[name] for name, file in owners.items()}
    traces = tuple(dict.fromkeys(("shards", *(trace for file in files for trace in file.traces))))
    return TensorFile(path, shapes, lambda name: owners[name].read(name), files[0].metadata, traces=traces)


def _reader(path: Path, get: Callable[[str], Tensor], names: Mapping[str, str]) -> Callable[[str], Tensor]:
    def read(name: str) -> Tensor:
        try:
            return get(names[name])
        except Exception as error:  # libraries raise any exception for a damaged file
            raise CheckpointError(f"{path}: {name} cannot be read; the file is damaged, get it again") from error

    return read


def _prefix(names: Mapping[str, str]) -> tuple[str, ...]:
    """Returns a prefix that training code leaves, and no publisher's file has."""
    wrapped = {plain: name for plain, name in names.items() if name != plain and not name.startswith(TINYCLIP)}
    prefixes = (name.removesuffix(plain) for plain, name in wrapped.items())
    return tuple(f"the prefix `{prefix}`" for prefix in itertools.islice(prefixes, 1))


# TinyCLIP keeps its towers and the temperature in modules of their own.
TINYCLIP = ("_image_encoder.", "_text_encoder.", "_logit_scale.")
# Prefixes that training code puts before every key: DistributedDataParallel, torch.compile, TinyCLIP.
WRAPPERS = ("module.", "_orig_mod.", *TINYCLIP)
# Stripped only if every key has it: `model.` may also be a part of a layout's own names.
COMMON = ("base_model.model.", "model.", "clip.", "clip_model.", "net.")


def _plain_names(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Returns the names without wrappers' prefixes: {plain: name in the file}."""
    stripped = {_unwrapped(name): name for name in names}
    while stripped and (
        common := next((prefix for prefix in COMMON if all(plain.startswith(prefix) for plain in stripped)), "")
    ):
        stripped = {_unwrapped(plain.removeprefix(common)): name for plain, name in stripped.items()}
    if len(stripped) < len(names):
        raise CheckpointError(f"{path} holds weights twice, with and without the prefix `module.`; save one of the two")
    return stripped


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name[name.index(".") + 1 :]
    return name


# A training checkpoint with averaged weights is evaluated, and published, by those.
EMA = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
STATE_DICT = ("state_dict", "model_state_dict", "model", "module")
OPTIMIZER = {"optimizer", "optimizer_state_dict", "param_groups"}
STATE_DICT_KEY, PICKLE_BYTES = b"\n\x00\x00\x00state_dict", 64 << 20
"""A string of pickle: its length, then its characters."""
TORCHSCRIPT_CODE = "/code/__torch__"
DEEPEST = 4
TRACES = ("epoch", "optimizer", "pytorch-lightning_version")
"""Entries of open_clip's and Lightning's training checkpoints that are not weights."""


def _open_pickle(path: Path, zipped: bool) -> TensorFile:
    """Opens the state dict in a file written by `torch.save`. From a zip file only names and shapes are read until a
    tensor is used, so that an optimizer's state costs nothing.

    Raises:
        CheckpointError: damaged, TorchScript, pickled code, or without a state dict.
    """
    if zipped:
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on pickle protocols and deprecated storages
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_unpickling(path, str(error))) from error
    except Exception as error:  # a damaged pickle can raise any exception
        raise CheckpointError(
            f"{path} is not a torch checkpoint: {readable_reason(error)}; download or save it again"
        ) from error
    tensors, used, passed = _state_dict(data)
    if not tensors:
        raise CheckpointError(f"{path} {_without(data)}; give a file with the model's state_dict")
    for name, value in tensors.items():
        if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise CheckpointError(f"{path}: {name} is not a dense tensor in memory; save plain float weights")
    notes = (f"{path.name} holds averaged weights ({used}); they are used, `{passed}` is not",) if passed else ()
    names = _plain_names(path, list(tensors))
    shapes = {plain: tuple(tensors[name].shape) for plain, name in names.items()}
    left = tuple(trace for trace in TRACES if isinstance(data, Mapping) and trace in data)
    if used in EMA:
        left = (*left, f"averaged weights ({used})")
    reader = _reader(path, tensors.__getitem__, names)
    return TensorFile(path, shapes, reader, notes=notes, traces=(*left, *_prefix(names)))


def _check_archive(path: Path) -> None:
    message = f"{path} is not a whole zip file: {REASON}; download or save it again"
    kinds = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError)
    with reraising(message, *kinds, into=CheckpointError), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(TORCHSCRIPT_CODE in entry.filename for entry in entries):
        raise CheckpointError(
            f"{path} is a TorchScript archive, which is code and never run; give the model's state_dict (OpenAI's "
            "weights: `download=True`, or the safetensors file that the variant's card names)"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path} is a compressed zip file, not what torch.save writes; unpack it first")


def _unpickling(path: Path, message: str) -> str:
    code = re.search(r"GLOBAL (\S+)", message)
    if code:
        return (
            f"{path} holds pickled code ({code.group(1)}), which is never run; save its state_dict alone, where you "
            f"trust the file: torch.save(torch.load({path.name!r}, weights_only=False){_weights_of(path)}, "
            "'weights.pt')"
        )
    return f"{path} is truncated, or not written by torch.save; save the model's state_dict again"


def _weights_of(path: Path) -> str:
    """Returns the expression that takes the state dict out of a pickled object: an entry of a dict, or a model's."""
    with contextlib.suppress(OSError, zipfile.BadZipFile, StopIteration), zipfile.ZipFile(path) as archive:
        pickled = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
        with archive.open(pickled) as stream:
            if STATE_DICT_KEY in stream.read(PICKLE_BYTES):
                return "['state_dict']"
    return ".state_dict()"


def _state_dict(data: Any, depth: int = 0) -> tuple[dict[str, Tensor], str, str]:
    """Returns the tensors, the key that holds them, and the key of the plain weights that were passed over for them."""
    if not isinstance(data, Mapping) or depth == DEEPEST:
        return {}, "", ""
    for name in (*EMA, *STATE_DICT):
        tensors, _, _ = _state_dict(data.get(name), depth + 1)
        if tensors:
            plain = next((other for other in STATE_DICT if name in EMA and isinstance(data.get(other), Mapping)), "")
            return tensors, name, plain
    if OPTIMIZER & data.keys():
        return {}, "", ""
    tensors = {key: value for key, value in data.items() if isinstance(key, str) and isinstance(value, Tensor)}
    tensors.pop("n_averaged", None)  # the count of updates of torch's AveragedModel
    return tensors, "", ""


def _without(data: Any) -> str:
    if not isinstance(data, Mapping):
        return f"holds a {type(data).__name__}, no state dict"
    if OPTIMIZER & data.keys():
        return "holds an optimizer's state and no model"
    return "holds no state dict (its keys: " + ", ".join(json.dumps(str(key)) for key in list(data)[:8]) + ")"
