"""Smaller embeddings: reads the samples for their axes, keeps the gates' samples out, and fits the axes."""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.towers.calibration import files_digest, prompt_file, spread_evenly
from mobileclip_deploy.base.files import file_sha256
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import read_dataset
from mobileclip_deploy.evaluation.minimum_samples import axes_pictures
from mobileclip_deploy.evaluation.user_samples import (
    different_pictures,
    different_texts,
)
from mobileclip_deploy.network.checkpoints.axes import Axes
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.embedding import embed_exactly
from mobileclip_deploy.network.inputs import Inputs
from mobileclip_deploy.network.model.image_files import image_files
from mobileclip_deploy.network.model.provenance import Compacted
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.network.model.variants import TOWERS, Variant
from mobileclip_deploy.network.samples import prompts, read_prompts
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.spaces.axes import fit_axes
from mobileclip_deploy.spaces.int8 import INT8_MOST, rounded_scale

# More samples take long, in float64. nano's axes from 384, 1,024 and 2,048 pictures lost 3.0, 3.0 and 2.7 points of
# recall@1.
MOST_PICTURES, MOST_CAPTIONS = 512, 1024
ADVISED_CAPTIONS = 500
WITHIN = 0.9999
"""Share of the fitting pictures' components that the int8 scale covers without clipping."""
TABLES = {".csv", ".tsv", ".jsonl"}


@dataclass(frozen=True, eq=False)
class FittingSet:
    """Samples to fit axes to: different pixels float32 [N, 3, S, S] in [0, 1], and ids int64 [M, L].

    `sha256`: of both, without their paths on this machine. `own_captions`: False for the packaged prompts. `notes`:
    sentences for the user.
    """

    size: int
    pixels: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64]
    own_captions: bool
    sha256: str
    notes: tuple[str, ...] = field(default=())


def check_size(size: int, variant: Variant, towers: Sequence[str]) -> None:
    """Raises UsageError if the towers' embeddings cannot be reduced to this many dimensions."""
    if set(towers) != set(TOWERS):
        raise UsageError(
            "`embedding_size` reduces both towers along the same axes, but this checkpoint has only one; leave it out"
        )
    if variant.scores == "sigmoid":
        raise UsageError(
            f"`embedding_size` fits a new softmax scale, but {variant.name} has sigmoid scores with a bias; leave it "
            "out"
        )
    if not 0 < size <= variant.embed_dim:
        raise UsageError(
            f"`embedding_size` {size}: {variant.name} has {variant.embed_dim} dimensions; give 1 to {variant.embed_dim}"
        )


def read_fitting_set(
    size: int, folder: Path, captions: Path | None, variant: Variant, dataset: Dataset | None
) -> FittingSet:
    """Reads pictures and captions, and refuses those that the axes will be judged by.

    Args:
        size: number of dimensions of an embedding.
        folder: folder of the pictures.
        captions: a file of one caption per line, a JSON list, or a table of pairs (docs/evaluation.md). If None: the
            folder's prompts.txt or prompts.json, else the packaged prompts.
        dataset: dataset on which accuracy will be compared; None if there is none.

    Raises:
        InvalidInput: too few different pictures, or one that cannot be read; a picture that the gates look at; captions
            that cannot be read.
    """
    needed = axes_pictures(size)
    every, most = image_files(folder), max(MOST_PICTURES, needed.pictures)
    files = spread_evenly(every, most)
    if len({file_sha256(path) for path in files}) < needed.pictures <= len(files):  # copies; there may be others
        files = spread_evenly(every, 2 * most)
    pixels, repeated = different_pictures(folder, files, needed, variant, dataset)
    notes = [f"{folder}: {repeated} pictures repeat others; each counts once."] if repeated else []
    texts = _captions(folder, captions)
    ids, left_out = (encode(prompts(), variant.tokens), 0) if texts is None else _ids(texts, variant, dataset)
    if left_out:
        notes.append(f"{left_out} captions are left out: duplicates, or captions of the gates.")
    if len(ids) < ADVISED_CAPTIONS:
        count = "no captions" if texts is None else f"{len(ids)} captions"
        notes.append(
            f"There are {count} to fit axes to; {ADVISED_CAPTIONS} or more (`captions`) keep search results closer."
        )
    digest = hashlib.sha256(files_digest(folder, files))
    digest.update(ids.tobytes())
    return FittingSet(size, pixels, ids, texts is not None, digest.hexdigest(), tuple(notes))


def fit_compact(source: Source, data: FittingSet, progress: Progress = silent) -> tuple[Axes, Compacted]:
    """Fits axes to a checkpoint's embedding space that keep search results, and returns them with their record.

    Raises:
        InvalidInput: the checkpoint's embeddings are not finite, or all the same.
    """
    progress(f"embedding {len(data.pixels)} pictures and {len(data.ids)} captions to fit axes to")
    # Folded, since that takes a third of the time and changes an embedding by no more than float32 does.
    model = Source(copy.deepcopy(source.model), source.provenance).folded().model
    inputs = Inputs((), (), data.pixels, data.ids)
    images, texts = embed_exactly(model, "image", inputs), embed_exactly(model, "text", inputs)
    matrix, logit_scale = fit_axes(images, texts, data.size, source.model.logit_factor)
    axes = Axes(matrix)
    scale, clipped = _int8_scale(images, matrix)
    return axes, Compacted(
        size=axes.size,
        full_size=axes.full_size,
        from_space=source.provenance.embedding_space,
        axes_sha256=axes.sha256,
        fit="mean",
        pictures=len(data.pixels),
        captions=len(data.ids),
        own_captions=data.own_captions,
        fitted_sha256=data.sha256,
        logit_scale=logit_scale,
        full_logit_scale=source.model.logit_factor,
        int8_scale=scale,
        clipped=clipped,
    )


def _int8_scale(images: npt.NDArray[np.float64], axes: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Returns the scale of int8 components in the cut space, and the share of the fitting pictures' components it
    clips."""
    components = np.abs(at_length_one(images @ axes.astype(np.float64)))
    scale = rounded_scale(float(np.quantile(components, WITHIN)))
    return scale, float(f"{(np.rint(components / scale) > INT8_MOST).mean():.3g}")


def _captions(folder: Path, file: Path | None) -> list[str] | None:
    if file is None:
        prompts_path = prompt_file(folder)
        return None if prompts_path is None else read_prompts(prompts_path)
    if file.suffix.lower() in TABLES:
        return list(read_dataset(file).captions)
    return read_prompts(file)


def _ids(texts: list[str], variant: Variant, dataset: Dataset | None) -> tuple[npt.NDArray[np.int64], int]:
    different, left_out = different_texts(texts, variant, dataset)
    if not different:
        raise InvalidInput("every caption is one of the gates' own; give others, or leave them out")
    return np.stack(spread_evenly(different, MOST_CAPTIONS)), left_out
