"""Towers whose rounding was learned, kept until their bundle is written: after a kill the same export goes on with
them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from mobileclip_deploy.base.files import check_tensors
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.network.checkpoints.writing import write_tensors
from mobileclip_deploy.network.model.variants import TOWERS


def kept_as(**what: Any) -> str:
    """A hash of everything that what is learned depends on, this package's and torch's version among it."""
    version = importlib.metadata.version("mobileclip-deploy")
    told = json.dumps([version, torch.__version__, what], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def forget(folder: Path) -> None:
    """Remove the towers that are kept in a folder, and the folder if nothing else is in it."""
    for tower in TOWERS:
        (folder / f"{tower}.safetensors").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is none, or something of somebody else's is in it
        folder.rmdir()


@dataclass(frozen=True)
class KeptTower:
    """The file of one tower; `key` is `kept_as` what it is of: a file of anything else is not looked at."""

    path: Path
    key: str

    @torch.no_grad()
    def restore(self, module: nn.Module) -> dict[str, Any] | None:
        """Give a tower the tensors that were learned, in place: how it came out; None where nothing whole is kept."""
        if not self.path.is_file():
            return None
        tensors = module.state_dict()
        try:
            check_tensors(self.path)
            with safe_open(self.path, framework="pt") as file:
                told = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        except (OSError, SafetensorError, InvalidInput):  # it is written whole: somebody damaged it; learned anew
            return None
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if told.get("key") != self.key or {name: tensor.shape for name, tensor in found.items()} != shapes:
            return None
        for name, tensor in tensors.items():
            tensor.copy_(found[name])
        outcome: dict[str, Any] = json.loads(told["outcome"])
        return outcome

    def keep(self, module: nn.Module, outcome: Mapping[str, Any]) -> None:
        """Write a tower's tensors and how it came out.

        Raises:
            InvalidInput: the folder cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}
        write_tensors(self.path, tensors, {"key": self.key, "outcome": json.dumps(outcome)})
