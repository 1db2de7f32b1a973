"""Cache of towers whose rounding was learned, until their bundle is written. After a kill the same export reuses
them."""

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mobileclip_deploy.base.files.tensors import read_tensors
from mobileclip_deploy.errors import REASON, InvalidInput
from mobileclip_deploy.network.checkpoints.writing import save_tensors
from mobileclip_deploy.network.model.variants import TOWERS


def kept_as(**what: Any) -> str:
    """Returns a hash of everything that the result of learning depends on, including this package's and torch's
    version."""
    version = importlib.metadata.version("mobileclip-deploy")
    text = json.dumps([version, torch.__version__, what], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def forget(folder: Path) -> None:
    """Removes the cached towers in a folder, and the folder if it is empty then."""
    for tower in TOWERS:
        (folder / f"{tower}.safetensors").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it does not exist, or has other files in it
        folder.rmdir()


@dataclass(frozen=True)
class KeptTower:
    """Cached file of one tower. `key` is its `kept_as`; a file with another key is ignored."""

    path: Path
    key: str

    @torch.no_grad()
    def restore(self, module: nn.Module) -> dict[str, Any] | None:
        """Copies the learned tensors into a tower, and returns their recorded outcome. None if no intact file is
        cached."""
        if not self.path.is_file():
            return None
        tensors = module.state_dict()
        try:
            learned, metadata = read_tensors(self.path, REASON)
        except InvalidInput:  # files are written whole, so it was damaged later; learn again
            return None
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if metadata.get("key") != self.key or {name: tensor.shape for name, tensor in learned.items()} != shapes:
            return None
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(learned[name]))
        outcome: dict[str, Any] = json.loads(metadata["outcome"])
        return outcome

    def keep(self, module: nn.Module, outcome: Mapping[str, Any]) -> None:
        """Writes a tower's tensors and their outcome.

        Raises:
            InvalidInput: the folder cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}
        save_tensors(self.path, tensors, {"key": self.key, "outcome": json.dumps(outcome)})
