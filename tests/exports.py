"""Bundles of the built-in network that tests share: each exported and verified once, when it is first asked for."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from building import locked
from conversions import Store
from json_files import edited_json
from safetensors.torch import load_file
from torch import Tensor

import mobileclip_deploy as mcd
from mobileclip_deploy.base.files import artifact_bytes, artifact_sha256
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.targets import get_target

Towers = TowerName | Literal["both"]


@dataclass(frozen=True)
class Exports:
    """A copy of the built-in checkpoint, so one without a dataset of its own, and verified bundles beside it.

    Nothing may change what is in its folder: it is that of all processes of a run, and of later ones.
    """

    store: Store

    @property
    def folder(self) -> Path:
        return self.store.folder / "exports"

    @property
    def checkpoint(self) -> Path:
        path = self.folder / "mine.safetensors"
        if not path.exists():
            with locked(self.folder / ".lock"):
                shutil.copy(builtin_checkpoint(), self.folder / ".copy")
                (self.folder / ".copy").replace(path)
        return path

    def weights(self) -> dict[str, Tensor]:
        return load_file(self.checkpoint)

    def bundle(self, target: str, precision: str) -> mcd.Bundle:
        """A bundle that nothing may change."""
        path = self.folder / f"nano-{get_target(target).label}-{precision}"
        return self._once(path, lambda: mcd.export(self._model(), target, precision, path.parent))

    def unverified(self, target: str, precision: str, tower: Towers) -> mcd.Bundle:
        """A bundle that nothing may change, for tests that look at no check."""
        path = self.folder / f"unverified-{tower}" / f"nano-{get_target(target).label}-{precision}"
        return self._once(
            path, lambda: mcd.export(self._model(), target, precision, path.parent, tower=tower, verify=False)
        )

    def layout(self, name: str, precision: str | None = None, *, verify: bool = True) -> mcd.Bundle:
        """A bundle as an app expects it, that nothing may change."""
        path = self.folder / ("layouts" if verify else "unverified-layouts") / f"{name}-{precision}"
        return self._once(
            path, lambda: mcd.export(self._model(), None, precision, path.parent, layout=name, verify=verify)
        )

    def _model(self) -> mcd.MobileCLIP:
        return mcd.load_model(None, self.checkpoint)

    def _once(self, path: Path, export: Callable[[], mcd.Bundle]) -> mcd.Bundle:
        """The bundle at a place, exported by whichever process asks first."""
        if not path.exists():
            with locked(path.with_name(f".{path.name}.lock")), self.store.conversions(), self.store.embeddings():
                if not path.exists() and (written := export().path) != path:
                    written.rename(path)
        return mcd.Bundle.open(path)

    def copy(self, target: str, precision: str, into: Path) -> Path:
        """A bundle's folder, to be damaged, away from its checkpoint."""
        source = self.bundle(target, precision).path
        return Path(shutil.copytree(source, into / source.name))


def rehash(bundle: Path) -> None:
    """Make a manifest agree with artifacts that were changed, as whoever wants the fault to go unseen would."""
    file = bundle / "manifest.json"
    with edited_json(file) as manifest:
        for entry in manifest["towers"].values():
            artifact = bundle / entry["file"]
            entry |= {"sha256": artifact_sha256(artifact), "bytes": artifact_bytes(artifact)}
