"""Zero-shot classification of image files: which label's prompt is nearest to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import RuntimeFailed, UsageError
from mobileclip_deploy.evaluation import bundle_embedder, embed_prompts, unit
from mobileclip_deploy.preprocess import load_batch

__all__ = ["Classification", "classify_images", "parse_labels"]


@dataclass(frozen=True)
class Classification:
    """One image and the probability of each label, the most probable first."""

    image: Path
    probabilities: dict[str, float]


def parse_labels(text: str) -> list[str]:
    """`cat,dog` -> labels, without blanks around them.

    Raises:
        UsageError: none, or one twice.
    """
    labels = [label.strip() for label in text.split(",") if label.strip()]
    if not labels:
        raise UsageError("--labels holds no label; write them as --labels cat,dog,car")
    double = next((label for label in labels if labels.count(label) > 1), None)
    if double is not None:
        raise UsageError(f"--labels holds {double!r} twice")
    return labels


def classify_images(
    path: Path, images: Sequence[Path], labels: Sequence[str], template: str | None = None
) -> list[Classification]:
    """Classify images by a bundle's artifacts: softmax over labels of logit scale times cosine.

    Args:
        path: the bundle's folder.
        template: with `{}` where the label goes; the variant's own when None.

    Raises:
        InvalidInput: the bundle is damaged, or an image cannot be used.
        UsageError: a tower is missing, or the template has no `{}`.
        RuntimeFailed: nothing here can run the bundle.
    """
    if template is not None and "{}" not in template:
        raise UsageError(f"the template {template!r} has no {{}} for the label")
    bundle = Bundle.open(path)
    pixels = load_batch(images, bundle.manifest.preprocess).numpy()
    embedder = bundle_embedder(bundle)
    texts = embed_prompts(embedder, [(template or embedder.template).replace("{}", label) for label in labels])
    logits = embedder.logit_scale * unit(embedder.images(pixels)) @ texts.T
    if not np.isfinite(logits).all():
        raise RuntimeFailed(f"{path}: its embeddings are not finite numbers; check it with `verify`")
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return [
        Classification(image, {labels[index]: float(row[index]) for index in np.argsort(-row)})
        for image, row in zip(images, shares, strict=True)
    ]
