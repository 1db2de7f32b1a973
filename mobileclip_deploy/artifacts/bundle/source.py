"""The checkpoint that a bundle came from: located, recognised by its hash, and opened once."""

import os
from pathlib import Path

from mobileclip_deploy.artifacts.bundle.opening import Bundle
from mobileclip_deploy.errors import CheckpointError, InvalidInput
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.checkpoints.compacting import compact
from mobileclip_deploy.network.checkpoints.loading import Origin, load
from mobileclip_deploy.network.checkpoints.preprocessing import CARD
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint, checkpoint_sha256
from mobileclip_deploy.network.model.variants import refuse_gone


def find_checkpoint(bundle: Bundle) -> Path | None:
    """Finds the source checkpoint of a bundle: the built-in one, or a file next to the bundle or in the working
    directory. None if there is none."""
    provenance = bundle.manifest.checkpoint
    folders = (*bundle.path.absolute().parents[:2], Path.cwd())  # a bundle may lie in the root folder
    name = Path(provenance.file).name  # the manifest's path is not trusted
    candidates = [builtin_checkpoint()] if provenance.builtin else [folder / name for folder in folders]
    return next(
        (path for path in candidates if os.path.isfile(path) and checkpoint_sha256(path) == provenance.sha256), None
    )


def is_source(bundle: Bundle, checkpoint: Path) -> bool:
    """Returns whether a file is the checkpoint that a bundle names: the same file, or another one with the same
    weights.

    Raises:
        CheckpointError: it cannot be read.
    """
    expected = bundle.manifest.checkpoint
    if checkpoint.is_file() and checkpoint_sha256(checkpoint) == expected.sha256:
        return True
    return expected.weights is not None and Source.of(load(checkpoint, preprocess=CARD)).provenance.same_weights(
        expected
    )


def open_source(bundle: Bundle, checkpoint: Path | None = None, full: bool = False) -> Source | None:
    """Opens the checkpoint that a bundle names: the given file, or the one that is found. None if none is found.

    For a bundle of smaller embeddings, it is the checkpoint cut to the bundle's axes, or the `full` one.

    Raises:
        CheckpointError: the given file is another checkpoint, or cannot be read.
        UsageError: the variant is one that only earlier versions have.
        InvalidInput: the axes are damaged, or of another space; or `recover` of an earlier version trained the weights.
    """
    expected = bundle.manifest.checkpoint
    refuse_gone(expected.variant)
    if expected.recovered is not None:
        raise InvalidInput(expected.recovered.refusal(bundle.path))
    path = checkpoint if checkpoint is not None else find_checkpoint(bundle)
    if path is None:
        return None
    # A file that was found is recognised by its hash. A folded copy has another hash, and records its own source.
    known_sha256 = expected.sha256 if checkpoint is None else None
    # Preprocessing comes from the bundle, whatever file is next to the checkpoint now. The bundle has none if it is the
    # variant's own.
    model = load(path, expected.variant, expected.image_size, Origin(sha256=known_sha256), expected.preprocess or CARD)
    if expected.preprocess is None and model.provenance is not None:
        model.provenance = model.provenance.model_copy(update={"preprocess": None})
    source = Source.of(model)
    if not source.provenance.same_weights(expected):
        raise CheckpointError(
            f"{path} is not the checkpoint this bundle was exported from: that one is {expected.file}, sha256 "
            f"{expected.sha256}, or any file with the same weights"
        )
    return source if full or expected.compacted is None else compact(source, Axes.read(bundle.axes), expected.compacted)
