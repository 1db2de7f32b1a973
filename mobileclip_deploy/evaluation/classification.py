"""Zero-shot classification of image files: which label's prompt is nearest to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import RuntimeFailed, UsageError
from mobileclip_deploy.evaluation import bundle_embedder, embed_prompts, unit
from mobileclip_deploy.files import StrPath
from mobileclip_deploy.model.preprocessing import load_batch
from mobileclip_deploy.targets import installed_target
from mobileclip_deploy.towers.labels import LabelSet

__all__ = ["Classification", "classify"]


@dataclass(frozen=True)
class Classification:
    """One image and the probability of each label, the most probable first."""

    image: Path
    probabilities: dict[str, float]


def classify(
    path: StrPath, images: Sequence[StrPath], labels: Sequence[str] | None = None, template: str | None = None
) -> list[Classification]:
    """Classify images by a bundle's artifacts: softmax over labels of logit scale times cosine.

    Args:
        path: the bundle's folder.
        labels: what the images may show, two or more; None for a bundle that is a classifier and has its own.
        template: with `{}` where the label goes; the variant's own when None.

    Raises:
        InvalidInput: the bundle is damaged, or an image cannot be used.
        UsageError: a tower is missing, labels that tell nothing apart, or the template has no `{}`.
        RuntimeFailed: nothing here can run the bundle.
    """
    asked = None if labels is None else LabelSet(tuple(labels), template)
    files = [Path(image) for image in images]
    bundle = Bundle.open(path)
    baked = bundle.manifest.classifier
    if baked is not None and (labels is not None or template is not None):
        raise UsageError(f"{path} is a classifier of {len(baked.labels)} labels of its own; leave `labels` out")
    if baked is None and asked is None:
        raise UsageError(f"{path} has no labels of its own; give them with `labels=['cat', 'dog', 'car']`")
    pixels = load_batch(files, bundle.manifest.preprocess).numpy()
    if baked is not None:
        runner = installed_target(bundle.manifest.target).runner(bundle.artifact("image"))
        return _ranked(bundle.path, files, baked.labels, runner(pixels))
    assert asked is not None
    embedder = bundle_embedder(bundle)
    texts = embed_prompts(embedder, [(template or embedder.template).replace("{}", label) for label in asked.names])
    logits = embedder.logit_scale * unit(embedder.images(pixels)) @ texts.T
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return _ranked(bundle.path, files, asked.names, shares)


def _ranked(
    path: Path, images: Sequence[Path], labels: Sequence[str], shares: npt.NDArray[np.float32]
) -> list[Classification]:
    if not np.isfinite(shares).all():
        raise RuntimeFailed(f"{path}: its answers are not finite numbers; check it with `verify`")
    return [
        Classification(image, {labels[index]: float(row[index]) for index in np.argsort(-row)})
        for image, row in zip(images, shares, strict=True)
    ]
