"""Choice of the ratio at which a fine-tuned checkpoint is mixed with its original, on held-out data of both."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.evaluation.metrics import paired_difference
from mobileclip_deploy.network.checkpoints.mixing import MixCurve, MixPoint, mix
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.pictures.embedder import model_embedder

RATIOS = tuple(tenth / 10 for tenth in range(11))
Hits = npt.NDArray[np.bool_]


def choose_ratio(
    original: MobileCLIP, tuned: MobileCLIP, keep: Dataset, gain: Dataset, progress: Progress = silent
) -> MixCurve:
    """Chooses the ratio with the highest accuracy on `gain` among those that lose nothing on `keep`. Accuracy is top-1
    if a dataset has classes, else the mean of both recalls@1.

    Args:
        original, tuned: two checkpoints of one network in training form.
        keep, gain: held-out data of the original's and of the fine-tune's task. One third chooses, the rest confirms.

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
        task = dataset.tasks[0]
        result = measure(model_embedder(model), dataset, (task,)).hits
        names = ("top1",) if task == "classification" else ("image_to_text_recall@1", "text_to_image_recall@1")
        return np.concatenate([result[name] for name in names])

    points = []
    for ratio in RATIOS:
        progress(f"accuracy at ratio {ratio:g}")
        points.append(MixPoint(ratio, *(100 * float(hits(ratio, part).mean()) for part in (keep_choice, gain_choice))))
    allowed = [point for point in points if point.kept >= points[0].kept]
    ratio = max(allowed, key=lambda point: (point.gained, -point.ratio)).ratio
    progress(f"confirming ratio {ratio:g}")
    kept, gained = (paired_difference(hits(ratio, part), hits(0, part)) for part in (keep_rest, gain_rest))
    return MixCurve(tuple(points), ratio, kept, gained)
