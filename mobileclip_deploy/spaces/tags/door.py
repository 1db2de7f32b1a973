"""`learn_labels`: learns labels from a few pictures each, on the embeddings of a model or a bundle."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.heads.label_head import LabelHead, Thresholds
from mobileclip_deploy.artifacts.heads.label_prompts import check_label_prompts
from mobileclip_deploy.artifacts.heads.labels import given_labels
from mobileclip_deploy.base.files import StrPath, content_sha256, optional_path
from mobileclip_deploy.base.files.arrays import Doubles
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.evaluation.dataset_files import builtin_dataset
from mobileclip_deploy.network.embedding import exact_texts
from mobileclip_deploy.network.model.loaded import MobileCLIP
from mobileclip_deploy.network.model.tokenizer import encode
from mobileclip_deploy.pictures.embedding import at_length_one, embed_prompts
from mobileclip_deploy.pictures.image_sources import ImageSource
from mobileclip_deploy.pictures.pictures import embed_dataset_images
from mobileclip_deploy.pictures.subjects import embedder_of, opened
from mobileclip_deploy.spaces.axes import unit_if_distinct
from mobileclip_deploy.spaces.relevance_set import embed_pictures
from mobileclip_deploy.spaces.tags.examples import ExampleSet, TagsRequest, folder_labels, read_examples
from mobileclip_deploy.spaces.tags.fitting import SHARE, fit
from mobileclip_deploy.spaces.tags.rows import LabelSamples

NAMES_STEP = 8
"""Step through the 1,911 names of emoji: 239 names of all kinds of things."""


def learn_labels(
    subject: Bundle | MobileCLIP | StrPath,
    examples: StrPath,
    labels: str | Sequence[str] | None = None,
    template: str | None = None,
    *,
    background: StrPath | None = None,
    false_tags: float = 0.05,
    output: StrPath | None = None,
    progress: Progress = silent,
) -> LabelHead:
    """Learns labels from a few pictures each, and when none of them fits.

    The image tower does not change. The labels' texts alone are kept unless pictures make held-out predictions better
    by more than chance. Pictures are used as they are, without augmentation.

    Args:
        subject: a bundle of embeddings, or its folder; or a model from `load_model`.
        examples: pictures of each label: a folder with a folder per label, or a dataset (docs/evaluation.md).
        labels: as for `classify`; None to learn the classes of `examples` from pictures alone.
        template: prompt with `{}` for the label; the variant's own if None.
        background: folder of at least 256 different pictures that no label fits.
        false_tags: target share of pictures without a label that get one.
        output: path of a .safetensors file for `classify(labels_file=...)`.

    Raises:
        InvalidInput: a picture cannot be used or is an example of two labels, or classes and labels differ.
        UsageError: a classifier, or an option that is not valid.
    """
    request = TagsRequest(Path(examples), optional_path(background), false_tags, labels is not None)
    path = optional_path(output)
    if path is not None and path.suffix != ".safetensors":
        raise UsageError(f"`output` {path}: a file of labels ends with .safetensors")
    label_set = folder_labels(request.examples) if labels is None else given_labels(labels, template)
    whole = opened(subject)
    if isinstance(whole, Bundle) and whole.manifest.classifier is not None:
        raise UsageError(f"{whole.path} is a classifier; labels are learned on a bundle of embeddings")
    embedder = embedder_of(whole, None if request.with_texts else ("image",))
    prompt = template or embedder.template

    def embed_images(sources: Sequence[ImageSource]) -> Doubles:
        rows = [str(source) for source in sources]
        return at_length_one(embed_dataset_images(embedder, list(sources), rows, progress=progress)[0])

    def embed_texts(texts: Sequence[str]) -> Doubles:
        return np.asarray(embed_prompts(embedder, list(texts)), np.float64)

    example_set = read_examples(request, label_set)
    notes = example_set.notes
    if request.with_texts and embedder.tokenizer is not None:
        notes += check_label_prompts(label_set.names, prompt, embedder.tokenizer)
    samples = _samples(example_set, prompt, embedder.scores.scale, embed_images, embed_texts)
    head = _head(example_set, samples, embedder.embedding_space, prompt, notes)
    if path is not None:
        head.save(path)
    return head


def learn_head(model: MobileCLIP, space: str, examples: ExampleSet, progress: Progress = silent) -> LabelHead:
    """Learns labels for an export, on embeddings in float64, so that every machine learns the same.

    Args:
        space: id of the model's embedding space.

    Raises:
        InvalidInput: a picture cannot be used, or embeddings hardly differ.
    """
    prompt = examples.labels.template_for(model.variant)

    def embed_images(sources: Sequence[ImageSource]) -> Doubles:
        return embed_pictures(model, sources, "labels: pictures", progress)

    def embed_texts(texts: Sequence[str]) -> Doubles:
        return unit_if_distinct(exact_texts(model, encode(list(texts), model.variant.tokens)), "texts of the labels")

    samples = _samples(examples, prompt, model.logit_factor, embed_images, embed_texts)
    return _head(examples, samples, space, prompt, examples.notes)


def _samples(
    examples: ExampleSet,
    prompt: str,
    scale: float,
    embed_images: Callable[[Sequence[ImageSource]], Doubles],
    embed_texts: Callable[[Sequence[str]], Doubles],
) -> LabelSamples:
    labels, texts, names = examples.labels.names, None, None
    if examples.request.with_texts:
        others = () if examples.background else builtin_dataset().captions[::NAMES_STEP]
        rows = embed_texts([prompt.replace("{}", name) for name in (*labels, *others)])
        texts, names = rows[: len(labels)], rows[len(labels) :] if others else None
    pictures = embed_images(examples.images)
    background = embed_images(examples.background) if examples.background else np.zeros((0, pictures.shape[1]))
    return LabelSamples(texts, pictures, examples.image_labels, background, scale, len(labels), names)


def _head(examples: ExampleSet, samples: LabelSamples, space: str, prompt: str, notes: tuple[str, ...]) -> LabelHead:
    fitted = fit(samples, examples.request.false_tags)
    thresholds = Thresholds(
        ratios=tuple(round(float(ratio), 6) for ratio in fitted.ratios),
        share=SHARE,
        method=fitted.method.name,
        examples=len(samples.pictures),
        background=len(samples.background),
        pictures_sha256=content_sha256(examples.digests.tobytes()),
        aim=examples.request.false_tags,
        false_tags=round(fitted.false_tags, 4),
        true_tags=round(fitted.true_tags, 4),
        right=round(fitted.right, 4),
        texts_right=None if fitted.texts_right is None else round(fitted.texts_right, 4),
    )
    weights, biases = (
        np.round(part, 5).astype(np.float32) for part in (fitted.rows.weights, fitted.rows.biases)
    )  # other machines' last bits
    template = prompt if examples.request.with_texts else None
    return LabelHead(examples.labels.names, weights, biases, thresholds, space, template, notes, examples.digests)
