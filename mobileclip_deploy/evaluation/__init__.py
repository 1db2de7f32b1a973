"""Task accuracy of anything that embeds images and texts: zero-shot classification and retrieval."""

from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.dataset_files import accuracy_dataset, builtin_dataset, read_dataset
from mobileclip_deploy.evaluation.embedder import Embedder, bundle_embedder, model_embedder
from mobileclip_deploy.evaluation.embedding import embed_classes, embed_prompts, unit
from mobileclip_deploy.evaluation.evaluate import (
    EvaluationResult,
    Measurement,
    Measuring,
    evaluate,
    measure,
)
from mobileclip_deploy.evaluation.looks import Looks, Paired, paired_looks
from mobileclip_deploy.evaluation.metrics import Interval, paired_difference
from mobileclip_deploy.evaluation.text_files import parse_templates

__all__ = [
    "Dataset",
    "Embedder",
    "EvaluationResult",
    "Interval",
    "Looks",
    "Measurement",
    "accuracy_dataset",
    "Measuring",
    "builtin_dataset",
    "bundle_embedder",
    "embed_classes",
    "embed_prompts",
    "evaluate",
    "measure",
    "model_embedder",
    "Paired",
    "paired_difference",
    "paired_looks",
    "parse_templates",
    "read_dataset",
    "unit",
]
