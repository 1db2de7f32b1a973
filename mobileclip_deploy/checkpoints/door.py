"""`load_model`: a file, a place on the hub, or the built-in checkpoint, as a model."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from mobileclip_deploy.arguments import Count
from mobileclip_deploy.checkpoints.loading import BUILTIN, HUB, Origin, builtin_checkpoint, load
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import load_variant
from mobileclip_deploy.progress import Progress, silent

__all__ = ["load_model"]


def load_model(
    variant: str | None = None,
    checkpoint: str | PathLike[str] | None = None,
    *,
    download: bool = False,
    image_size: Count | None = None,
    preprocess: str | PathLike[str] | None = None,
    announce: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> MobileCLIP:
    """Load a checkpoint: training form (or folded, if the file is), eval mode, float32.

    Args:
        variant: its name; told from the file when None.
        checkpoint: .pt or .safetensors, or a place on the hub, "hf:owner/name[@revision][:file]"; the built-in nano
            checkpoint when None.
        download: fetch the variant's published checkpoint, from where its card says.
        image_size: in pixels, when it was fine-tuned at another than the variant's.
        preprocess: what pictures are made with: "openai", "card" (the variant's own), or a JSON file such as
            open_clip_config.json; told from the checkpoint, or from such a file beside it, when None.
        announce: called with the licence of the weights before anything is downloaded.
        progress: told how far a download is.

    Raises:
        CheckpointError: the file cannot be had, cannot be read or does not fit the variant; or it was fine-tuned with
            open_clip, and nothing says on which pictures.
        InvalidInput: the file of `preprocess` cannot be used.
        UsageError: unknown variant or preprocessing, or a variant without its checkpoint.
    """
    if download and (variant is None or checkpoint is not None):
        raise UsageError("a download needs a variant's name, and no checkpoint (`download=True`, `variant='NAME'`)")
    pictures = None if preprocess is None else str(preprocess)
    reference = str(checkpoint) if checkpoint is not None else ""
    if download or reference.startswith(HUB):
        from mobileclip_deploy.checkpoints import hub

        place = hub.usual_source(variant) if download and variant else hub.parse(reference)
        fetched = hub.fetch(place, announce=announce, progress=lambda done, total: progress(_downloaded(done, total)))
        return load(fetched.path, variant, image_size, Origin(fetched.repository, fetched.revision), pictures)
    if checkpoint is not None:
        return load(Path(checkpoint), variant, image_size, None, pictures)
    if variant is not None and load_variant(variant).name != BUILTIN:
        raise UsageError(f"{variant} needs its weights: give `checkpoint`, or `download=True`")
    return load(builtin_checkpoint(), BUILTIN, image_size, None, pictures)


def _downloaded(done: int, total: int | None) -> str:
    return f"downloading {done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB")
