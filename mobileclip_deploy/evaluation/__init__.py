"""Task accuracy of anything that embeds images and texts: zero-shot classification and retrieval."""

from mobileclip_deploy.evaluation.dataset import Dataset, builtin_dataset, read_dataset
from mobileclip_deploy.evaluation.evaluate import (
    TASKS,
    Embedder,
    EvaluationResult,
    bundle_embedder,
    evaluate,
    model_embedder,
)
from mobileclip_deploy.evaluation.metrics import Interval

__all__ = [
    "TASKS",
    "Dataset",
    "Embedder",
    "EvaluationResult",
    "Interval",
    "builtin_dataset",
    "bundle_embedder",
    "evaluate",
    "model_embedder",
    "read_dataset",
]
