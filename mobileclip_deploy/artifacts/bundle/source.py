"""The checkpoint that a bundle came from: found, recognised by its hash, and opened once."""

from __future__ import annotations

import os
from pathlib import Path

from mobileclip_deploy.artifacts.bundle.opening import Bundle
from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.checkpoints.compacting import compact
from mobileclip_deploy.network.checkpoints.loading import Origin, load
from mobileclip_deploy.network.checkpoints.preprocessing import CARD
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint


def find_checkpoint(bundle: Bundle) -> Path | None:
    """The source checkpoint of a bundle, if it is the built-in one or lies beside the bundle or in the working
    directory; None otherwise."""
    wanted = bundle.manifest.checkpoint
    folders = (*bundle.path.absolute().parents[:2], Path.cwd())  # a bundle may lie in the root folder
    name = Path(wanted.file).name  # and never a path that a stranger wrote down
    places = [builtin_checkpoint()] if wanted.builtin else [folder / name for folder in folders]
    return next((path for path in places if os.path.isfile(path) and file_sha256(path) == wanted.sha256), None)


def is_source(bundle: Bundle, checkpoint: Path) -> bool:
    """Whether a file is the checkpoint that a bundle names: the same file, or another one with the same weights.

    Raises:
        CheckpointError: it cannot be read.
    """
    wanted = bundle.manifest.checkpoint
    if checkpoint.is_file() and file_sha256(checkpoint) == wanted.sha256:
        return True
    return wanted.weights is not None and Source.of(load(checkpoint, preprocess=CARD)).provenance.same_weights(wanted)


def open_source(bundle: Bundle, checkpoint: Path | None = None, full: bool = False) -> Source | None:
    """Open the checkpoint that a bundle names: the file given, or the one that is found; None where none is. Of a
    bundle of smaller embeddings, the checkpoint cut to the axes that stand in it, or the `full` one.

    Raises:
        CheckpointError: the file given is another checkpoint, or cannot be read.
        InvalidInput: the axes are damaged, or of another space.
    """
    wanted = bundle.manifest.checkpoint
    path = checkpoint if checkpoint is not None else find_checkpoint(bundle)
    if path is None:
        return None
    # What was found was recognised by its hash; a folded copy has another hash and says itself what it was made from.
    known = wanted.sha256 if checkpoint is None else None
    # Pictures as the bundle says, whatever lies beside the file now; it says nothing where they are the variant's own.
    model = load(path, wanted.variant, wanted.image_size, Origin(sha256=known), wanted.preprocess or CARD)
    if wanted.preprocess is None and model.provenance is not None:
        model.provenance = model.provenance.model_copy(update={"preprocess": None})
    source = Source.of(model)
    if not source.provenance.same_weights(wanted):
        raise CheckpointError(
            f"{path} is not the checkpoint this bundle was exported from: that one is {wanted.file}, sha256 "
            f"{wanted.sha256}, or any file with the same weights"
        )
    return source if full or wanted.compacted is None else compact(source, Axes.read(bundle.axes), wanted.compacted)
