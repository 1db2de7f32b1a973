"""What bundles and checkpoints are worth on a dataset, and their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobileclip_deploy.api.models import find_checkpoint, load_source
from mobileclip_deploy.api.paths import StrPath, opened
from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation import (
    Dataset,
    EvaluationResult,
    Measurement,
    builtin_dataset,
    bundle_embedder,
    check_tasks,
    measure,
    model_embedder,
    parse_templates,
    read_dataset,
)
from mobileclip_deploy.evaluation.embedding_files import EmbeddingFile, embed_to_file
from mobileclip_deploy.files import file_sha256
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.parity import Gates
from mobileclip_deploy.progress import Progress, silent
from mobileclip_deploy.verify.comparison import Comparison, compare_bundles

__all__ = ["compare", "embed", "evaluate"]


def evaluate(
    subject: Bundle | MobileCLIP | StrPath,
    *,
    dataset: StrPath | None = None,
    task: str | None = None,
    templates: Sequence[str] = (),
    class_names: StrPath | None = None,
    images: StrPath | None = None,
    split: str = "test",
    skip_bad: bool = False,
    cache: StrPath | None = None,
    progress: Progress = silent,
) -> EvaluationResult:
    """Zero-shot classification and retrieval of a bundle, or of a loaded model.

    Args:
        subject: a bundle, its folder, or a model from `load_model`.
        dataset: a dataset's folder or file (docs/datasets.md); the built-in held-out set when None.
        task: "classification" or "retrieval"; all the dataset allows when None.
        templates: prompts with `{}` for the class, or files of them; several are averaged. The dataset's own, or else
            the model's, when there are none.
        class_names: a file of class names, instead of the dataset's own.
        images: the folder of a table's or of Karpathy's images; their own when None.
        split: of Karpathy's files and of CLIP_benchmark's shards.
        skip_bad: leave out rows that cannot be used (`EvaluationResult.skipped`) instead of refusing the first.
        cache: a folder that keeps embeddings, so that an interrupted run goes on where it was; none when None.

    Raises:
        InvalidInput: the dataset or the bundle cannot be used.
        UsageError: the dataset cannot be used for the task, or a template has no `{}`.
        RuntimeFailed: nothing here can run the bundle.
    """
    prompts = parse_templates(templates)
    data = _dataset(dataset, class_names, images, split, skip_bad)
    tasks = check_tasks(data, (task,) if task else None)
    embedder = model_embedder(subject) if isinstance(subject, MobileCLIP) else bundle_embedder(opened(subject))
    return measure(
        embedder,
        data,
        tasks,
        templates=prompts,
        skip_bad=skip_bad,
        cache=None if cache is None else Path(cache),
        progress=progress,
    ).result


def compare(
    bundles: Sequence[Bundle | StrPath],
    *,
    dataset: StrPath | None = None,
    checkpoint: StrPath | None = None,
    gates: Gates | None = None,
    templates: Sequence[str] = (),
    class_names: StrPath | None = None,
    images: StrPath | None = None,
    split: str = "test",
    skip_bad: bool = False,
    cache: StrPath | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Bundles side by side: bytes, deviation on their golden inputs, accuracy, and whether the gates are held.

    Accuracy is compared with the checkpoint's, or with that of the first bundle of the same embedding space.

    Args:
        bundles: as returned by `export`, or their folders.
        dataset, templates, class_names, images, split, skip_bad, cache: as for `evaluate`.
        checkpoint: the source of the bundles; found as for `verify` when None.

    Raises:
        InvalidInput: the dataset or a bundle cannot be used, or the checkpoint given is no bundle's.
        UsageError: no bundle, or one twice.
        RuntimeFailed: a runtime refused an artifact.
    """
    subjects = [opened(bundle) for bundle in bundles]
    prompts = parse_templates(templates)
    data = _dataset(dataset, class_names, images, split, skip_bad)
    folder = None if cache is None else Path(cache)
    given = None if checkpoint is None else file_sha256(Path(checkpoint))
    if given is not None and all(bundle.manifest.checkpoint.sha256 != given for bundle in subjects):
        raise InvalidInput(f"{checkpoint} is not the checkpoint of any of these bundles")

    def source(bundle: Bundle) -> Measurement | None:
        own = given is not None and bundle.manifest.checkpoint.sha256 == given
        path = Path(checkpoint) if own and checkpoint is not None else find_checkpoint(bundle)
        if path is None:
            return None
        return measure(
            model_embedder(load_source(bundle.manifest.checkpoint, path)),
            data,
            templates=prompts,
            skip_bad=skip_bad,
            cache=folder,
            progress=lambda text: progress(f"checkpoint: {text}"),
        )

    return compare_bundles(
        subjects,
        data,
        source,
        gates or Gates(),
        templates=prompts,
        skip_bad=skip_bad,
        cache=folder,
        progress=progress,
    )


def embed(
    bundle: Bundle | StrPath,
    sources: Sequence[StrPath],
    output: StrPath,
    *,
    normalise: bool = False,
    skip_bad: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> EmbeddingFile:
    """Write a bundle's embeddings of image files and folders, or of one file of texts; see
    `embedding_files.embed_to_file`.

    Raises:
        UsageError: the output cannot be used, or the bundle lacks the tower.
        InvalidInput: a source cannot be read, or holds nothing.
        RuntimeFailed: nothing here can run the bundle.
    """
    return embed_to_file(
        opened(bundle),
        [Path(source) for source in sources],
        Path(output),
        normalise=normalise,
        skip_bad=skip_bad,
        force=force,
        progress=progress,
    )


def _dataset(
    dataset: StrPath | None, class_names: StrPath | None, images: StrPath | None, split: str, skip_bad: bool
) -> Dataset:
    if dataset is None:
        return builtin_dataset()
    return read_dataset(
        Path(dataset),
        class_names=None if class_names is None else Path(class_names),
        images=None if images is None else Path(images),
        split=split,
        skip_bad=skip_bad,
    )
