"""Embeddings of image files or texts as a file, stamped with their embedding space."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.checkpoints.writing import write_tensors
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation import bundle_embedder, model_embedder, unit
from mobileclip_deploy.evaluation.bad_rows import BadRows
from mobileclip_deploy.evaluation.embedding import embed_dataset_images, embed_texts
from mobileclip_deploy.evaluation.image_files import find_images
from mobileclip_deploy.evaluation.text_files import parse_json, read_lines
from mobileclip_deploy.files import check_file_destination, file_sha256, replacing, write_whole
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.variants import TowerName

__all__ = ["EmbeddingFile", "check_embedding_destination", "embed_to_file"]

FORMATS = (".safetensors", ".jsonl", ".npy")
TEXTS = (".txt", ".jsonl")
DESCRIBED = ("tower", "variant", "embedding_space", "dtype", "count", "dimension", "normalised")


@dataclass(frozen=True)
class EmbeddingFile:
    """What was written: embeddings float32 [count, dimension]; `skipped` are the images that were left out, and why.

    `description`: the file beside an array that says what it holds.
    """

    path: Path
    description: Path | None
    tower: TowerName
    variant: str
    embedding_space: str
    dtype: str
    count: int
    dimension: int
    normalised: bool
    skipped: tuple[str, ...]


def check_embedding_destination(output: Path, force: bool) -> None:
    """Whether embeddings can be written there, and what is written beside them.

    Raises:
        UsageError: another suffix, or a file exists and `force` is not given.
    """
    if output.suffix not in FORMATS:
        raise UsageError(f"{output}: give a name that ends with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    for file in (output, _description(output)):
        if file is not None:
            check_file_destination(file, force)


def _description(output: Path) -> Path | None:
    return output.with_suffix(".json") if output.suffix == ".npy" else None


def embed_to_file(
    subject: Bundle | MobileCLIP,
    sources: Sequence[Path],
    output: Path,
    *,
    normalise: bool = False,
    skip_bad: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> EmbeddingFile:
    """Embed images, or the texts of a file, and write them.

    What is computed is kept in a folder `.NAME.partial` beside the output until that is complete: the same command
    goes on where it was interrupted or killed, and ends with the same bytes.

    Args:
        sources: image files, folders of images (searched to the bottom) and patterns, or one file of texts: a .txt
            with one a line, or a .jsonl of strings or objects with a `text`.
        output: .safetensors (`embeddings` float32 [N, D]; in the metadata `names`, a JSON list, `embedding_space`,
            `tower`, `variant`, `normalised` and `artifact`), .jsonl (an object a line: `image` or `text`, `embedding`,
            `embedding_space`, `normalised`), or .npy (the array alone; a .json beside it says the rest).
        normalise: scale each embedding to length 1; they are as the artifact gives them otherwise.
        skip_bad: leave out images that cannot be used instead of refusing the first.

    Raises:
        UsageError: a tower the bundle does not hold, or texts and images together.
        InvalidInput: a source cannot be read, or holds nothing.
        NotRun, RuntimeFailed: nothing here can run the bundle.
    """
    tower: TowerName = "text" if len(sources) == 1 and sources[0].suffix.lower() in TEXTS else "image"
    names, files = ([], _images(sources)) if tower == "image" else (_texts(sources[0]), [])
    embedder = bundle_embedder(subject, (tower,)) if isinstance(subject, Bundle) else model_embedder(subject)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.parent / f".{output.name}.partial"
    bad: dict[int, str] = {}
    if tower == "image":
        names = [str(file) for file in files]
        values, bad = embed_dataset_images(embedder, files, names, skip_bad=skip_bad, cache=partial, progress=progress)
        names = [name for number, name in enumerate(names) if number not in bad]
    else:
        values = embed_texts(embedder, names, cache=partial, progress=progress)
    if normalise:
        values = unit(values)
    written = EmbeddingFile(
        path=output,
        description=_description(output),
        tower=tower,
        variant=embedder.variant,
        embedding_space=embedder.embedding_space,
        dtype=str(values.dtype),
        count=len(values),
        dimension=values.shape[1],
        normalised=normalise,
        skipped=tuple(bad[number] for number in sorted(bad)),
    )
    _write(written, names, values, embedder.artifact(tower))
    shutil.rmtree(partial)
    return written


def _write(written: EmbeddingFile, names: Sequence[str], values: npt.NDArray[np.float32], artifact: str) -> None:
    if written.path.suffix == ".safetensors":
        metadata = {
            "names": json.dumps(names, ensure_ascii=False),
            "embedding_space": written.embedding_space,
            "tower": written.tower,
            "variant": written.variant,
            "normalised": json.dumps(written.normalised),
            "artifact": artifact,
        }
        write_tensors(written.path, {"embeddings": torch.from_numpy(values)}, metadata)
        return
    if written.description is not None:
        with replacing(written.path) as partial, partial.open("wb") as stream:
            np.save(stream, values)
        told = {
            "schema_version": 1,
            "embeddings": written.path.name,
            "sha256": file_sha256(written.path),
            **{name: value for name, value in vars(written).items() if name in DESCRIBED},
            "artifact": artifact,
            "names": list(names),
        }
        write_whole(written.description, json.dumps(told, indent=2, ensure_ascii=False) + "\n")
        return
    with replacing(written.path) as partial, partial.open("w", encoding="utf-8") as lines:
        for name, row in zip(names, values, strict=True):
            line = {
                written.tower: name,
                "embedding": [float(str(value)) for value in row],  # float32's shortest decimals
                "embedding_space": written.embedding_space,
                "normalised": written.normalised,
            }
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")


def _images(sources: Sequence[Path]) -> list[Path]:
    for source in sources:
        if source.suffix.lower() in TEXTS:
            raise UsageError(f"{source}: a file of texts is embedded alone, without images beside it")
    return find_images(sources)


def _texts(path: Path) -> list[str]:
    lines = read_lines(path, BadRows(skip=False))
    if not lines:
        raise InvalidInput(f"{path} holds no texts")
    if path.suffix.lower() == ".txt":
        return [line for _, line in lines]
    texts = []
    for number, line in lines:
        value = parse_json(f"{path}:{number}", line)
        text = value.get("text") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise InvalidInput(f'{path}:{number}: neither a string nor an object with a "text"')
        texts.append(text)
    return texts
