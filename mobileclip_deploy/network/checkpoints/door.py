"""`load_model`: loads a file, a checkpoint on the hub, or the built-in checkpoint."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from mobileclip_deploy.base.arguments import Count
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.network.checkpoints.loading import Origin, load
from mobileclip_deploy.network.checkpoints.named_weights import weights_file
from mobileclip_deploy.network.checkpoints.weights_files import BUILTIN
from mobileclip_deploy.network.model.architecture import MobileCLIP


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
    """Loads a checkpoint: training form (or folded, if the file is), eval mode, float32.

    Args:
        variant: its name; identified from the file when None.
        checkpoint: .pt or .safetensors, or a place on the hub, "hf:owner/name[@revision][:file]"; the built-in nano
            checkpoint when None.
        download: fetch the variant's published checkpoint, from the source on its card.
        image_size: in pixels, if it was fine-tuned at another size than the variant's.
        preprocess: "openai", "card" (the variant's own), or a JSON file such as open_clip_config.json. When None, it is
            read from the checkpoint, or from such a file next to it.
        announce: called with the licence of the weights before anything is downloaded.
        progress: called with the progress of a download.

    Raises:
        CheckpointError: the file cannot be found or read, or does not fit the variant; or it was fine-tuned with
            open_clip and its preprocessing is unknown.
        InvalidInput: the file of `preprocess` cannot be used.
        UsageError: unknown variant or preprocessing, or a variant without its checkpoint.
    """
    pictures = None if preprocess is None else str(preprocess)
    file = weights_file(variant, checkpoint, download)
    if isinstance(file, Path):
        return load(file, BUILTIN if checkpoint is None else variant, image_size, None, pictures)
    from mobileclip_deploy.network.checkpoints import hub

    fetched = hub.fetch(file, announce=announce, progress=lambda done, total: progress(_downloaded(done, total)))
    origin = Origin(fetched.repository, fetched.revision, fetched.sha256)
    return load(fetched.path, variant, image_size, origin, pictures)


def _downloaded(done: int, total: int | None) -> str:
    return f"downloading {done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB")
