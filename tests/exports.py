"""Bundles of the built-in network that tests share: exported once a session, each when it is first asked for."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

import mobileclip_deploy as mcd
from mobileclip_deploy.checkpoints import builtin_checkpoint
from mobileclip_deploy.files import artifact_bytes, artifact_sha256

__all__ = ["Exports", "rehash"]


@dataclass
class Exports:
    """A copy of the built-in checkpoint, so one without a dataset of its own, and verified bundles beside it."""

    folder: Path
    _bundles: dict[tuple[str, str], mcd.Bundle] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        """The source of all bundles."""
        path = self.folder / "mine.safetensors"
        if not path.exists():
            shutil.copy(builtin_checkpoint(), path)
        return path

    def weights(self) -> dict[str, Tensor]:
        """The checkpoint's tensors, to be changed."""
        return load_file(self.checkpoint)

    def bundle(self, target: str, precision: str) -> mcd.Bundle:
        """A bundle that nothing may change."""
        key = target, precision
        if key not in self._bundles:
            self._bundles[key] = mcd.export(mcd.load_model(None, self.checkpoint), target, precision, self.folder)
        return self._bundles[key]

    def copy(self, target: str, precision: str, into: Path) -> Path:
        """A bundle's folder, to be damaged, away from its checkpoint."""
        source = self.bundle(target, precision).path
        return Path(shutil.copytree(source, into / source.name))


def rehash(bundle: Path) -> None:
    """Make a manifest agree with artifacts that were changed, as whoever wants the fault to go unseen would."""
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    for entry in manifest["towers"].values():
        artifact = bundle / entry["file"]
        entry |= {"sha256": artifact_sha256(artifact), "bytes": artifact_bytes(artifact)}
    file.write_text(json.dumps(manifest), encoding="utf-8")
