"""Checkpoints: loading, folding, and which one a bundle came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobileclip_deploy.api.paths import StrPath
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.checkpoints import BUILTIN, builtin_checkpoint, hub, load
from mobileclip_deploy.errors import CheckpointError, UsageError
from mobileclip_deploy.evaluation import Dataset, builtin_dataset, read_dataset
from mobileclip_deploy.files import file_sha256
from mobileclip_deploy.folding import FoldReport, fold, is_folded
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.preprocessing import normalize
from mobileclip_deploy.model.provenance import Provenance
from mobileclip_deploy.model.variants import load_variant
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.towers.inputs import sample_inputs

__all__ = ["accuracy_dataset", "find_checkpoint", "load_model", "load_source", "reparameterize"]


def load_model(
    variant: str | None = None,
    checkpoint: StrPath | None = None,
    *,
    download: bool = False,
    image_size: int | None = None,
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
        announce: called with the licence of the weights before anything is downloaded.
        progress: told how far a download is.

    Raises:
        CheckpointError: the file cannot be had, cannot be read or does not fit the variant.
        UsageError: unknown variant, or one without its checkpoint.
    """
    if download and (variant is None or checkpoint is not None):
        raise UsageError("a download needs the name of a variant, and no checkpoint (--download, --variant NAME)")
    reference = str(checkpoint) if checkpoint is not None else ""
    if download or hub.is_reference(reference):
        source = hub.usual_source(variant) if download and variant else hub.parse(reference)
        fetched = hub.fetch(source, announce=announce, progress=lambda done, total: progress(_downloaded(done, total)))
        return load(fetched.path, variant, image_size, fetched.repository, fetched.revision)
    if checkpoint is not None:
        return load(Path(checkpoint), variant, image_size)
    if variant is not None and load_variant(variant).name != BUILTIN:
        raise UsageError(f"{variant} needs its weights: give --checkpoint FILE, or --download")
    return load(builtin_checkpoint(), BUILTIN, image_size)


def _downloaded(done: int, total: int | None) -> str:
    return f"downloading {done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB")


def reparameterize(model: MobileCLIP) -> FoldReport:
    """Fold every branch and BatchNorm of a model, in place, and measure on the sample images and prompts what changed.

    Raises:
        FoldingError: training mode, half-folded, or an output that moved by more than rounding explains.
    """
    if is_folded(model):
        return fold(model)
    inputs = sample_inputs(model)
    from torch import from_numpy

    pixels = normalize(from_numpy(inputs.pixels), model.variant.preprocess) if "image" in model.towers else None
    return fold(model, pixels, from_numpy(inputs.ids) if "text" in model.towers else None)


def find_checkpoint(bundle: Bundle) -> Path | None:
    """The source checkpoint of a bundle, if it is the built-in one or lies beside the bundle or in the working
    directory; None otherwise."""
    wanted = bundle.manifest.checkpoint
    folders = (*bundle.path.absolute().parents[:2], Path.cwd())  # a bundle may lie in the root folder
    places = [builtin_checkpoint()] if wanted.builtin else [folder / wanted.file for folder in folders]
    return next((path for path in places if path.is_file() and file_sha256(path) == wanted.sha256), None)


def load_source(wanted: Provenance, path: Path) -> MobileCLIP:
    """Load the checkpoint that a bundle names.

    Raises:
        CheckpointError: it is another one.
    """
    model = load(path, wanted.variant, wanted.image_size)
    assert model.provenance is not None
    if model.provenance.sha256 != wanted.sha256:
        raise CheckpointError(f"{path} is not the checkpoint this bundle was exported from (sha256 {wanted.sha256})")
    return model


def accuracy_dataset(model: MobileCLIP, dataset: StrPath | None = None) -> Dataset | None:
    """What a checkpoint's accuracy is compared on: the built-in one has a dataset of its own, others have none."""
    if dataset is not None:
        return read_dataset(Path(dataset))
    return builtin_dataset() if model.provenance is not None and model.provenance.builtin else None
