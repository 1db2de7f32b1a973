"""Accuracy of checkpoints: to compare bundles with, and to choose the ratio at which a fine-tuned one is mixed with its
original."""

import copy

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.progress import Progress, about, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.evaluate import IN_FULL, Measuring, measure
from mobileclip_deploy.evaluation.looks import Looks
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.network.checkpoints.mixing import MixCurve, MixPoint, mix
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder

RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
Hits = npt.NDArray[np.bool_]


def choose_ratio(
    original: MobileCLIP, tuned: MobileCLIP, keep: Dataset, gain: Dataset, progress: Progress = silent
) -> MixCurve:
    """Chooses the ratio with the highest accuracy on `gain` among those that lose nothing on `keep`. Accuracy is top-1
    if a dataset has classes, else the mean of both recalls@1.

    Args:
        original, tuned: two checkpoints of one network in training form.
        keep, gain: held-out data of the original's and of the fine-tune's task. A third chooses, the rest confirms.

    Raises:
        UsageError: the two checkpoints do not have the same towers.
        CheckpointError: they are of different networks.
        InvalidInput: a dataset cannot be used.
    """
    if original.towers != tuned.towers:
        raise UsageError("the two checkpoints have different towers; give two of one network")
    (keep_choice, keep_rest), (gain_choice, gain_rest) = keep.divided(), gain.divided()
    model, states = copy.deepcopy(tuned), (original.state_dict(), tuned.state_dict())

    def hits(ratio: float, dataset: Dataset) -> Hits:
        model.load_state_dict(mix(*states, ratio))
        return _hits(model, dataset, progress=about(f"ratio {ratio:g}", progress))

    points = []
    for ratio in RATIOS:
        points.append(MixPoint(ratio, *(100 * float(hits(ratio, part).mean()) for part in (keep_choice, gain_choice))))
    allowed = [point for point in points if point.old >= points[0].old]
    ratio = max(allowed, key=lambda point: (point.new, -point.ratio)).ratio
    of_old, of_new = (paired_difference(hits(ratio, part), hits(0, part)) for part in (keep_rest, gain_rest))
    return MixCurve(tuple(points), ratio, of_old, of_new)


def _hits(model: MobileCLIP, dataset: Dataset, how: Measuring = IN_FULL, progress: Progress = silent) -> Hits:
    task = dataset.tasks[0]
    result = measure(model_embedder(model), dataset, (task,), how, progress).hits
    names = ("top1",) if task == "classification" else ("image_to_text_recall@1", "text_to_image_recall@1")
    return np.concatenate([result[name] for name in names])


def change_from(
    original: MobileCLIP,
    tuned: MobileCLIP,
    dataset: Dataset | None,
    how: Measuring = IN_FULL,
    progress: Progress = silent,
) -> str:
    """Returns one line about a fine-tuned checkpoint: its accuracy against the original's, and its embedding space.

    Args:
        dataset: for the accuracy, measured as in `choose_ratio`; None to leave it out.

    Raises:
        CheckpointError: a model was not loaded from a checkpoint.
        InvalidInput: the dataset cannot be used.
    """
    first, last = (Source.of(model).provenance for model in (original, tuned))
    if first.embedding_space == last.embedding_space:
        return f"{last.file} has the weights of {first.file}: the same embedding space."
    changed = ""
    if dataset is not None:
        files = zip((original, tuned), (first.file, last.file), strict=True)
        before, after = (_hits(model, dataset, how, about(str(file), progress)) for model, file in files)
        change = paired_difference(after, before)
        changed = (
            f"{100 * after.mean():.2f}% on {dataset.name} against {100 * before.mean():.2f}% of {first.file} "
            f"({change.value:+.2f} points, {change.low:+.2f} to {change.high:+.2f}); "
        )
    return f"{last.file}: {changed}its embeddings cannot be compared with those of {first.file}: make each index again."


def checkpoint_looks(
    model: MobileCLIP, dataset: Dataset, progress: Progress = silent, how: Measuring = IN_FULL
) -> Looks:
    """Returns runs of a checkpoint on a dataset. The unaugmented images are embedded at once, before the model is
    changed."""
    looks = Looks(model_embedder(model), dataset, how, about("checkpoint", progress))
    looks.runs(1)
    return looks
