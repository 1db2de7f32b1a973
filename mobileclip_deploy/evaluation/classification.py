"""Zero-shot classification of image files by the label whose prompt is nearest to the image."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.artifacts.heads.label_prompts import check_label_prompts
from mobileclip_deploy.artifacts.heads.labels import LabelSet, given_labels
from mobileclip_deploy.base.files import StrPath, paths
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import RuntimeFailed, UsageError
from mobileclip_deploy.network.model.loaded import MobileCLIP
from mobileclip_deploy.pictures.embedder import Embedder
from mobileclip_deploy.pictures.embedding import embed_prompts, unit
from mobileclip_deploy.pictures.image_listing import ImageListing
from mobileclip_deploy.pictures.pictures import Reading, embed_dataset_images
from mobileclip_deploy.pictures.subjects import embedder_of, opened

# Images whose probabilities are in memory at once: those of 10,000 labels take 40 MB.
ROWS = 1000


@dataclass(frozen=True)
class Classification:
    """One image and the probabilities of its labels, the most probable label first.

    `tags`: labels that are present, the most probable first; empty if none of them is. None if the labels were not
    learned from pictures, since their probabilities are then relative to each other only.
    """

    image: Path
    probabilities: dict[str, float]
    tags: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """The most probable label."""
        return next(iter(self.probabilities))


class Classifications(tuple[Classification, ...]):
    """Classifications of the images, in order.

    `skipped` has a message for each image that was left out. `notes` are sentences on labels whose prompts are cut or
    not known to the vocabulary.
    """

    skipped: tuple[str, ...]
    notes: tuple[str, ...]

    def __new__(cls, images: Iterable[Classification], skipped: Iterable[str] = (), notes: Iterable[str] = ()) -> Self:
        classifications = super().__new__(cls, images)
        classifications.skipped, classifications.notes = tuple(skipped), tuple(notes)
        return classifications


def classify(
    bundle: Bundle | MobileCLIP | StrPath,
    images: StrPath | Sequence[StrPath],
    labels: str | Sequence[str] | None = None,
    template: str | None = None,
    *,
    top: int | None = None,
    labels_file: StrPath | LabelHead | None = None,
    skip_bad: bool = False,
    progress: Progress = silent,
) -> Classifications:
    """Classifies images by a bundle's artifacts or by a checkpoint: softmax over labels of logit scale times cosine.

    Labels that were learned from pictures also say which labels are present, if any (`Classification.tags`).

    Reads images in batches, and keeps only the returned probabilities of each.

    Args:
        bundle: as returned by `export`, or its folder; or a model from `load_model`.
        images: files, folders (searched recursively) and patterns such as "photos/*.jpg", or one of them. A file that
            is named twice has two results, and is embedded once.
        labels: two or more labels to choose from, or a text for them ("cat,dog", or a file with one per line); None for
            a classifier with its own labels, a bundle or a model.
        template: prompt with `{}` for the label; the variant's own if None.
        top: number of labels to return for each image, the most probable ones; all if None.
        labels_file: labels from `learn_labels`, or the file with them, for a bundle of embeddings or a model.
        skip_bad: leave out images that cannot be used (`Classifications.skipped`) instead of refusing the first.

    Raises:
        InvalidInput: the bundle is damaged, an image cannot be used, or none can.
        UsageError: a tower is missing, there are fewer than two different labels, or the template has no `{}`.
        RuntimeFailed: nothing here can run the bundle.
    """
    check_top(top)
    label_set = None if labels is None else given_labels(labels, template)
    head = labels_file if isinstance(labels_file, LabelHead | None) else LabelHead.read(Path(labels_file))
    if head is not None and (label_set is not None or template is not None):
        raise UsageError("`labels_file` contains labels and template; leave `labels` and `template` out")
    sources = paths(images)
    with ImageListing(sources) as listing:
        files = list(listing)
    whole = opened(bundle)
    chosen = classifier_of(whole, label_set, template) if head is None else learned_classifier(whole, head)
    names, embedder, shares, notes = chosen
    thresholds = embedder.thresholds if head is None else head.thresholds
    rows = [str(file) for file in files]
    answers, tally = embed_dataset_images(embedder, files, rows, Reading(skip_bad), progress)
    used = [file for number, file in enumerate(files) if number not in tally.bad]
    results = (
        Classification(
            file,
            ranked(names, row, top),
            None if thresholds is None else tuple(names[index] for index in thresholds.present(row)),
        )
        for file, row in zip(used, probability_rows(answers, shares, embedder.name), strict=True)
    )
    if len(set(sources)) < len(sources) and set(files) <= set(sources):
        by_file = {result.image: result for result in results}
        results = (by_file[source] for source in sources if source in by_file)
    return Classifications(results, tally.skipped, notes)


def check_top(top: int | None) -> None:
    """Raises UsageError for a number of labels below 1."""
    if top is not None and top < 1:
        raise UsageError(f"`top` {top}: give 1 or more")


def ranked(names: Sequence[str], row: Floats, top: int | None) -> dict[str, float]:
    """Returns the labels of one image [L] with their probabilities, the most probable first."""
    return {names[index]: float(row[index]) for index in np.argsort(-row)[:top]}


def learned_classifier(
    whole: Bundle | MobileCLIP, head: LabelHead
) -> tuple[Sequence[str], Embedder, Callable[[Floats], Floats], tuple[str, ...]]:
    """Returns the same as `classifier_of`, for labels that were learned on the same embedding space."""
    if isinstance(whole, Bundle) and whole.manifest.classifier is not None:
        raise UsageError(f"{whole.path} is a classifier with fixed labels; leave `labels_file` out")
    embedder = embedder_of(whole, ("image",))
    if embedder.embedding_space != head.embedding_space:
        raise UsageError(
            f"the labels were learned in the embedding space {head.embedding_space}, and {embedder.name} has "
            f"{embedder.embedding_space}; learn them again"
        )
    return head.names, embedder, head.probabilities, ()


def classifier_of(
    whole: Bundle | MobileCLIP, labels: LabelSet | None, template: str | None
) -> tuple[Sequence[str], Embedder, Callable[[Floats], Floats], tuple[str, ...]]:
    """Returns the labels, the embedder, a function from the embedder's outputs [N, D] to probabilities [N, L], and
    notes."""
    baked = whole.manifest.classifier if isinstance(whole, Bundle) else None
    if isinstance(whole, Bundle) and baked is not None:
        if labels is not None or template is not None:
            argument = "labels" if labels is not None else "template"
            message = f"{whole.path} is a classifier with {len(baked.labels)} fixed labels"
            raise UsageError(f"{message}; leave `{argument}` out")
        return baked.labels, embedder_of(whole, ("image",)), lambda probabilities: probabilities, ()
    if labels is None:
        owner = f"{whole.path} has" if isinstance(whole, Bundle) else "a model has"
        raise UsageError(f"{owner} no fixed labels; give labels with `labels=['cat', 'dog', 'car']`")
    # One tower at a time: the text tower's memory is free again before the image tower is loaded.
    texts, notes = _embedded_labels(embedder_of(whole, ("text",)), labels.names, template)
    embedder = embedder_of(whole, ("image",))
    return labels.names, embedder, lambda images: embedder.scores.of(unit(images) @ texts.T), notes


def _embedded_labels(embedder: Embedder, names: Sequence[str], template: str | None) -> tuple[Floats, tuple[str, ...]]:
    """Returns the embeddings of labels, [L, D] at length 1, and notes on their prompts."""
    prompt, tokens = template or embedder.template, embedder.tokenizer
    notes = () if tokens is None else check_label_prompts(names, prompt, tokens)
    return embed_prompts(embedder, [prompt.replace("{}", name) for name in names]), notes


def probability_rows(answers: Floats, shares: Callable[[Floats], Floats], name: str) -> Iterator[Floats]:
    """Yields the probabilities [L] of each image, from outputs of a tower [N, D].

    Raises:
        RuntimeFailed: they are not finite.
    """
    for start in range(0, len(answers), ROWS):
        probabilities = shares(answers[start : start + ROWS])
        if not np.isfinite(probabilities).all():
            raise RuntimeFailed(f"{name}: its answers are not finite numbers; check it with `verify`")
        yield from probabilities
