"""Torch checkpoints: memory-mapped, through torch's restricted unpickler, and the state dict found in them."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobileclip_deploy.errors import CheckpointError, worded

__all__ = ["Content", "read"]

# A training checkpoint with averaged weights is evaluated, and published, by those.
EMA = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
STATE_DICT = ("state_dict", "model_state_dict", "model", "module")
OPTIMIZER = {"optimizer", "optimizer_state_dict", "param_groups"}
TORCHSCRIPT_CODE = "/code/__torch__"
DEEPEST = 4
TRACES = ("epoch", "optimizer")
"""What open_clip's training keeps beside the weights."""


@dataclass(frozen=True)
class Content:
    """The state dict of a torch checkpoint, what the user should know about how it was chosen, and which of `TRACES`
    stand beside it."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]
    traces: tuple[str, ...]


def read(path: Path, zipped: bool) -> Content:
    """The state dict in a file written by `torch.save`. Of a zip file nothing but names and shapes is read into
    memory until a tensor is used, so an optimizer's state costs nothing.

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
    except Exception as error:  # a damaged pickle fails in whatever way its bytes lead to
        raise CheckpointError(
            f"{path} is not a torch checkpoint: {worded(error)}; download or save it again"
        ) from error
    tensors, used, passed = _state_dict(data)
    if not tensors:
        raise CheckpointError(f"{path} {_without(data)}; give a file with the model's state_dict")
    odd = next((name for name, value in tensors.items() if not _is_dense(value)), None)
    if odd is not None:
        raise CheckpointError(f"{path}: {odd} is not a dense tensor in memory; save plain float weights")
    notes = (f"{path.name} holds averaged weights ({used}); they are used, `{passed}` is not",) if passed else ()
    left = data if isinstance(data, Mapping) else {}
    return Content(tensors, notes, tuple(trace for trace in TRACES if trace in left))


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is not a whole zip file: {worded(error)}; download or save it again") from error
    if any(TORCHSCRIPT_CODE in entry.filename for entry in entries):
        raise CheckpointError(
            f"{path} is a TorchScript archive, that is code, which is never run; give the model's state_dict "
            "(OpenAI's weights: `download=True`, or the safetensors file that the variant's card names)"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path} is a compressed zip file, not what torch.save writes; unpack it first")


def _unpickling(path: Path, message: str) -> str:
    code = re.search(r"GLOBAL (\S+)", message)
    if code:
        return f"{path} holds pickled code ({code.group(1)}), which is never run; save its state_dict alone"
    return f"{path} is truncated, or a pickle that torch.save did not write; save the model's state_dict again"


def _state_dict(data: Any, depth: int = 0) -> tuple[dict[str, Tensor], str, str]:
    """The tensors, under which key they were, and the key of the plain weights that were passed over for them."""
    if not isinstance(data, Mapping) or depth == DEEPEST:
        return {}, "", ""
    for name in (*EMA, *STATE_DICT):
        tensors, _, _ = _state_dict(data.get(name), depth + 1)
        if tensors:
            plain = next((other for other in STATE_DICT if name in EMA and isinstance(data.get(other), Mapping)), "")
            return tensors, name, plain
    if OPTIMIZER & data.keys():
        return {}, "", ""
    # AveragedModel counts its updates in a tensor beside the weights.
    tensors = {key: value for key, value in data.items() if isinstance(key, str) and isinstance(value, Tensor)}
    tensors.pop("n_averaged", None)
    return tensors, "", ""


def _is_dense(value: Tensor) -> bool:
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized


def _without(data: Any) -> str:
    if not isinstance(data, Mapping):
        return f"holds a {type(data).__name__}, no state dict"
    if OPTIMIZER & data.keys():
        return "holds an optimizer's state and no model"
    return "holds no state dict (its keys: " + ", ".join(json.dumps(str(key)) for key in list(data)[:8]) + ")"
