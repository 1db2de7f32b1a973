"""Zero-shot classification and retrieval over a bundle or the checkpoint itself, embedded in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from mobileclip_deploy.architecture import MobileCLIP
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.dataset import Dataset
from mobileclip_deploy.evaluation.metrics import Interval, percentage, ranks_of
from mobileclip_deploy.preprocess import load_batch
from mobileclip_deploy.reference import embed_images, embed_texts
from mobileclip_deploy.targets import installed_target
from mobileclip_deploy.tokenizer import tokenize
from mobileclip_deploy.variants import Preprocess

__all__ = ["TASKS", "Embedder", "EvaluationResult", "bundle_embedder", "evaluate", "model_embedder"]

TASKS = ("classification", "retrieval")
BATCH = 64


@dataclass(frozen=True)
class Embedder:
    """Both towers of something that can be run here, and what they need to know about their inputs."""

    name: str
    engine: str
    embedding_space: str
    images: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
    texts: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
    preprocess: Preprocess
    context_length: int
    template: str
    logit_scale: float


class EvaluationResult(BaseModel):
    """Figures of one embedder on one dataset, in percent; mean ranks count from 1."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    model: str
    engine: str
    embedding_space: str
    dataset: str
    images: int
    classes: int
    figures: dict[str, Interval]
    mean_ranks: dict[str, float]


def bundle_embedder(bundle: Bundle) -> Embedder:
    """Run a bundle's artifacts here.

    Raises:
        UsageError: the bundle lacks a tower.
        NotRun, RuntimeFailed: nothing here can run it.
    """
    target, manifest = installed_target(bundle.manifest.target), bundle.manifest
    image, text = (target.runner(bundle.artifact(tower)) for tower in ("image", "text"))
    return Embedder(
        name=bundle.path.name,
        engine=image.engine,
        embedding_space=manifest.embedding_space,
        images=image,
        texts=text,
        preprocess=manifest.preprocess,
        context_length=manifest.tokenizer.context_length,
        template=manifest.template,
        logit_scale=manifest.logit_scale,
    )


def model_embedder(model: MobileCLIP) -> Embedder:
    """Run the checkpoint itself, in torch."""
    import torch

    assert model.provenance is not None
    return Embedder(
        name=f"{model.variant.name} checkpoint",
        engine=f"torch {torch.__version__}",
        embedding_space=model.provenance.embedding_space,
        images=lambda pixels: embed_images(model, pixels),
        texts=lambda ids: embed_texts(model, ids),
        preprocess=model.variant.preprocess,
        context_length=model.variant.tokenizer.context_length,
        template=model.variant.template,
        logit_scale=float(model.logit_scale.exp().clamp(max=100)),
    )


def evaluate(
    embedder: Embedder,
    dataset: Dataset,
    tasks: tuple[str, ...] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> EvaluationResult:
    """Measure an embedder on a dataset.

    Args:
        tasks: of `TASKS`; all that the dataset can be used for when None.
        progress: told how far it is, in a few words.

    Raises:
        UsageError: the dataset cannot be used for a task.
        InvalidInput: an image cannot be used.
    """
    wanted = dataset.tasks if tasks is None else tasks
    for task in wanted:
        if task not in dataset.tasks:
            raise UsageError(f"dataset {dataset.name} cannot be used for {task}, only for {', '.join(dataset.tasks)}")
    images = _embed_images(embedder, dataset, progress)
    figures: dict[str, Interval] = {}
    mean_ranks: dict[str, float] = {}
    if "classification" in wanted:
        template = dataset.template or embedder.template
        classes = embed_prompts(embedder, [template.replace("{}", name) for name in dataset.classes])
        ranks = ranks_of(images @ classes.T, np.asarray(dataset.labels))
        figures |= {f"top{k}": percentage(ranks < k) for k in (1, 5)}
    if "retrieval" in wanted:
        progress("captions")
        texts = embed_prompts(embedder, dataset.captions)
        own = np.arange(len(images))
        for name, similarity in (("image_to_text", images @ texts.T), ("text_to_image", texts @ images.T)):
            ranks = ranks_of(similarity, own)
            figures |= {f"{name}_recall@{k}": percentage(ranks < k) for k in (1, 5, 10)}
            mean_ranks[name] = float(ranks.mean() + 1)
    return EvaluationResult(
        model=embedder.name,
        engine=embedder.engine,
        embedding_space=embedder.embedding_space,
        dataset=dataset.name,
        images=len(dataset.images),
        classes=len(dataset.classes),
        figures=figures,
        mean_ranks=mean_ranks,
    )


def embed_prompts(embedder: Embedder, prompts: tuple[str, ...] | list[str]) -> npt.NDArray[np.float32]:
    """Unit-length text embeddings [M, D]."""
    ids = tokenize(prompts, embedder.context_length)
    return unit(np.concatenate([embedder.texts(ids[i : i + BATCH]) for i in range(0, len(ids), BATCH)]))


def _embed_images(embedder: Embedder, dataset: Dataset, progress: Callable[[str], None]) -> npt.NDArray[np.float32]:
    parts = []
    for start in range(0, len(dataset.images), BATCH):
        progress(f"image {start} of {len(dataset.images)}")
        parts.append(embedder.images(load_batch(dataset.images[start : start + BATCH], embedder.preprocess).numpy()))
    return unit(np.concatenate(parts))


def unit(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows [N, D] at length 1; a row of zeros stays zeros."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.maximum(norms, np.finfo(np.float32).tiny)
