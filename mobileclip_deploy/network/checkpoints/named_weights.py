"""The file of weights that a user names, here or on the hub. Imports no torch, which takes a second."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.checkpoints.weights_files import (
    BUILTIN,
    HUB,
    builtin_checkpoint,
    checkpoint_file,
    container_of,
)
from mobileclip_deploy.network.model.variants import load_variant

if TYPE_CHECKING:
    from mobileclip_deploy.network.checkpoints.hub_reader import HubFile


def weights_file(
    variant: str | None, checkpoint: str | PathLike[str] | None = None, download: bool = False
) -> Path | HubFile:
    """Finds the weights that a user names, here or on the hub; see `load_model`.

    Raises:
        UsageError: unknown variant, one without its checkpoint, or not a repository of the hub.
        CheckpointError: the file does not exist, or its first bytes are not a checkpoint's.
    """
    if download and (variant is None or checkpoint is not None):
        raise UsageError("a download needs a variant's name, without a checkpoint (`download=True`, `variant='NAME'`)")
    reference = str(checkpoint) if checkpoint is not None else ""
    if download or reference.startswith(HUB):
        from mobileclip_deploy.network.checkpoints.hub import usual_source
        from mobileclip_deploy.network.checkpoints.hub_reader import parse

        return usual_source(variant) if download and variant else parse(reference)
    if variant is not None:
        named = load_variant(variant).name  # refuses an unknown name before the file is read
        if checkpoint is None and named != BUILTIN:
            raise UsageError(f"{variant} needs its weights: give `checkpoint`, or `download=True`")
    if checkpoint is None:
        return builtin_checkpoint()
    path = checkpoint_file(Path(checkpoint))
    container_of(path)
    return path
