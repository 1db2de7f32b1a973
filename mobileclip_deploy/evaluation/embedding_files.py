"""Embeddings of image files or texts as a file: safetensors or JSON lines, stamped with their embedding space."""

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
from mobileclip_deploy.evaluation import bundle_embedder, unit
from mobileclip_deploy.evaluation.bad_rows import BadRows
from mobileclip_deploy.evaluation.embedding import embed_dataset_images, embed_texts
from mobileclip_deploy.evaluation.text_files import parse_json, read_lines
from mobileclip_deploy.files import replacing
from mobileclip_deploy.model.preprocessing import image_files
from mobileclip_deploy.model.variants import TowerName

__all__ = ["EmbeddingFile", "embed_to_file"]

FORMATS = (".safetensors", ".jsonl")
TEXTS = (".txt", ".jsonl")


@dataclass(frozen=True)
class EmbeddingFile:
    """What was written: embeddings [count, dimension]; `skipped` are the images that were left out, and why."""

    path: Path
    tower: TowerName
    embedding_space: str
    count: int
    dimension: int
    normalised: bool
    skipped: tuple[str, ...]


def embed_to_file(
    bundle: Bundle,
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
        sources: image files and folders of images (searched to the bottom), or one file of texts: a .txt with one a
            line, or a .jsonl of strings or objects with a `text`.
        output: .safetensors (`embeddings` float32 [N, D]; in the metadata `names`, a JSON list, `embedding_space`,
            `tower`, `normalised` and `artifact`) or .jsonl (an object a line: `image` or `text`, `embedding`,
            `embedding_space`, `normalised`).
        normalise: scale each embedding to length 1; they are as the artifact gives them otherwise.
        skip_bad: leave out images that cannot be used instead of refusing the first.

    Raises:
        UsageError: another suffix, or a tower the bundle does not hold.
        InvalidInput: a source cannot be read, or holds nothing.
        NotRun, RuntimeFailed: nothing here can run the bundle.
    """
    if output.suffix not in FORMATS:
        raise UsageError(f"{output}: give a name that ends with {' or '.join(FORMATS)}")
    tower: TowerName = "text" if len(sources) == 1 and sources[0].suffix.lower() in TEXTS else "image"
    names, files = ([], _images(sources)) if tower == "image" else (_texts(sources[0]), [])
    embedder = bundle_embedder(bundle, (tower,))
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
        tower=tower,
        embedding_space=embedder.embedding_space,
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
            "normalised": json.dumps(written.normalised),
            "artifact": artifact,
        }
        write_tensors(written.path, {"embeddings": torch.from_numpy(values)}, metadata)
        return
    with replacing(written.path) as partial, partial.open("w", encoding="utf-8") as stream:
        for name, row in zip(names, values, strict=True):
            line = {
                written.tower: name,
                "embedding": [float(str(value)) for value in row],  # float32's shortest decimals
                "embedding_space": written.embedding_space,
                "normalised": written.normalised,
            }
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _images(sources: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for source in sources:
        if source.suffix.lower() in TEXTS:
            raise UsageError(f"{source}: a file of texts is embedded alone, without images beside it")
        if source.is_dir():
            found = image_files(source)
            if not found:
                raise InvalidInput(f"{source} holds no images")
            files += found
        else:
            files.append(source)  # one that is missing or no image is refused, or skipped, when it is read
    return list(dict.fromkeys(files))


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
