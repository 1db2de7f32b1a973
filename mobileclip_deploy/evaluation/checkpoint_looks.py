"""Measurements of a checkpoint, to compare bundles with."""

from __future__ import annotations

from mobileclip_deploy.base.progress import Progress, about, silent
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.evaluate import IN_FULL, Measuring
from mobileclip_deploy.evaluation.looks import Looks
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder


def checkpoint_looks(
    model: MobileCLIP, dataset: Dataset, progress: Progress = silent, how: Measuring = IN_FULL
) -> Looks:
    """Returns runs of a checkpoint on a dataset. The unaugmented images are embedded at once, before the model is
    changed."""
    looks = Looks(model_embedder(model), dataset, how, about("checkpoint", progress))
    looks.runs(1)
    return looks
