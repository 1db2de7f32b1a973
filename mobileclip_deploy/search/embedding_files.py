"""Embeddings of image files or texts as a file that names their embedding space."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.base.escaping import BROKEN
from mobileclip_deploy.base.files import file_sha256, replacing
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.base.files.tensors import RowParts, write_rows
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.loaded import MobileCLIP
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.pictures.cache import partial_cache
from mobileclip_deploy.pictures.embedding import embed_texts, unit
from mobileclip_deploy.pictures.image_listing import ImageListing
from mobileclip_deploy.pictures.pictures import Reading, Tally, image_embeddings
from mobileclip_deploy.pictures.subjects import embedder_of
from mobileclip_deploy.pictures.text_files import read_texts
from mobileclip_deploy.search.requested import TEXTS, description_beside, tower_of_sources

# Maximum bytes of names: safetensors reads a header of 100 MB, and the rest of the header needs room.
NAMES_BYTES = 90_000_000
# Rows in memory at once while a file is written: of dimension 512 they take 2 MB.
AT_ONCE = 1000
LENIENTLY = Reading(skip_bad=True)
DESCRIBED = ("tower", "variant", "embedding_space", "dtype", "count", "dimension", "normalised")


@dataclass(frozen=True)
class EmbeddingFile:
    """File that was written: embeddings float32 [count, dimension].

    Attributes:
        description: .json file that describes a .npy array; None for other formats.
        skipped: images that were left out, with the reason.
        computed: number of embeddings that this call computed; the others come from an interrupted call.
        seconds: time of these, reading included.
        per_second: `computed` divided by `seconds`. These are 0, 0 and None for texts, and for embeddings by an
            evaluator or emulator.
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
    fast_jpeg: bool = False
    computed: int = 0
    seconds: float = 0.0
    per_second: float | None = None


def embed_to_file(
    subject: Bundle | MobileCLIP,
    sources: Sequence[Path],
    output: Path,
    *,
    normalise: bool = False,
    how: Reading = LENIENTLY,
    progress: Callable[[str], None] = lambda _: None,
) -> EmbeddingFile:
    """Implements `embed` for all formats except an index. Of images only the names stay in memory.

    Embeddings are cached in a folder `.NAME.partial` next to the output until the output is complete. The same command
    continues after an interruption or a kill, and produces the same bytes.

    Args:
        output: .safetensors (`embeddings` float32 [N, D]; in the metadata `names`, a JSON list, `embedding_space`,
            `tower`, `variant`, `normalised` and `artifact`), .jsonl (one object per line: `image` or `text`,
            `embedding`, `embedding_space`, `normalised`), or .npy (the array alone; a .json next to it has the rest).
        how: options for reading images; its `cache` is replaced by the folder.

    Raises:
        UsageError: the sources mix texts and images, or a .safetensors file cannot contain that many names.
    """
    tower = tower_of_sources(sources)
    with ExitStack() as stack:
        items: list[str] | ImageListing
        items = read_texts(sources[0]) if tower == "text" else stack.enter_context(asked_images(sources))
        _check_names(output, items)
        embedder = embedder_of(subject, (tower,))
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = stack.enter_context(partial_cache(output))
        tally = Tally()
        if isinstance(items, ImageListing):
            how = replace(how, cache=partial)
            images = ((file, str(file)) for file in items)
            with closing(image_embeddings(embedder, images, len(items), how, tally, progress)) as parts:
                rows = _gathered((unit(part) if normalise else part for part in parts), partial / "rows")
        else:
            values = embed_texts(embedder, items, cache=partial, progress=progress)
            rows = RowParts(values.shape, lambda: iter([unit(values) if normalise else values]))
        written = EmbeddingFile(
            path=output,
            description=description_beside(output),
            tower=tower,
            variant=embedder.variant,
            embedding_space=embedder.embedding_space,
            dtype="float32",
            count=rows.shape[0],
            dimension=rows.shape[1],
            normalised=normalise,
            skipped=tally.skipped,
            fast_jpeg=how.fast_jpeg and tower == "image",
            computed=tally.computed,
            seconds=tally.seconds,
            per_second=tally.per_second,
        )
        names = (str(name) for number, name in enumerate(items) if number not in tally.bad)
        _write(written, names, rows, embedder.artifact(tower))
        return written


def refuse_classifier(subject: Bundle | MobileCLIP) -> None:
    """Raises UsageError for a bundle whose image output is not an embedding but label probabilities."""
    if isinstance(subject, Bundle) and subject.manifest.classifier is not None:
        labels = f"{len(subject.manifest.classifier.labels)} labels"
        raise UsageError(f"{subject.path.name} is a classifier of {labels} and has no embeddings; use `classify`")


def _check_names(output: Path, names: list[str] | ImageListing) -> None:
    """Refuses too many names before anything is computed: readers of .safetensors accept a header of 100 MB at most."""
    if output.suffix != ".safetensors":
        return
    quoted = (json.dumps(_as_json(str(name)), ensure_ascii=False) for name in names)
    if sum(len(text.encode()) for text in quoted) > NAMES_BYTES:
        many = f"{len(names):,} names are more than a .safetensors file can hold"
        raise UsageError(f"{many}; give `output` a name that ends with .npy or .jsonl")


def _gathered(parts: Iterable[Floats], path: Path) -> RowParts:
    """Writes all parts to a file and returns them as rows that are read from it."""
    count, dimension = 0, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for part in parts:
            part.tofile(stream)
            count, dimension = count + len(part), part.shape[1]

    def again() -> Iterator[Floats]:
        with path.open("rb") as stream:  # not mapped: pages of a map count as memory
            while len(part := np.fromfile(stream, np.float32, AT_ONCE * dimension)):
                yield part.reshape(-1, dimension)

    return RowParts((count, dimension), again)


def _write(written: EmbeddingFile, names: Iterable[str], rows: RowParts, artifact: str) -> None:
    fast = {"fast_jpeg": True} if written.fast_jpeg else {}
    if written.path.suffix == ".safetensors":
        metadata = {
            "names": f"[{', '.join(map(_as_json, names))}]",
            "embedding_space": written.embedding_space,
            "tower": written.tower,
            "variant": written.variant,
            "normalised": json.dumps(written.normalised),
            "artifact": artifact,
            **{name: json.dumps(value) for name, value in fast.items()},
        }
        write_rows(written.path, "embeddings", rows, metadata)
        return
    if written.description is not None:
        with replacing(written.path) as partial:
            write_array(partial, rows)
        record = {
            "schema_version": 1,
            "embeddings": written.path.name,
            "sha256": file_sha256(written.path),
            **{name: value for name, value in vars(written).items() if name in DESCRIBED},
            **fast,
            "artifact": artifact,
        }
        describe_array(written.description, record, names)
        return
    with replacing(written.path) as partial, partial.open("w", encoding="utf-8") as lines:
        every = (row for part in rows.parts() for row in part)
        for name, row in zip(names, every, strict=True):
            line = {
                written.tower: name,
                "embedding": [float(str(value)) for value in row],  # float32's shortest decimals
                "embedding_space": written.embedding_space,
                "normalised": written.normalised,
                **fast,
            }
            lines.write(_as_json(line) + "\n")


def write_array(path: Path, rows: RowParts) -> None:
    """Writes rows as a .npy, with one part in memory at a time."""
    with path.open("wb") as stream:
        described = {"descr": "<f4", "fortran_order": False, "shape": rows.shape}
        np.lib.format.write_array_header_1_0(stream, described)
        for part in rows.parts():
            part.tofile(stream)


def describe_array(path: Path, told: dict[str, object], names: Iterable[str]) -> None:
    """Writes an object whose last field is `names`, formatted as `json` would. The names may exceed memory."""
    head = _as_json(told | {"names": []}, indent=2).removesuffix("]\n}")
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(head)
        comma = ""
        for name in names:
            stream.write(f"{comma}\n    {_as_json(name)}")
            comma = ","
        stream.write("\n  ]\n}\n" if comma else "]\n}\n")


def _as_json(value: object, indent: int | None = None) -> str:
    """Returns JSON that can be written as UTF-8. A file name that is not valid UTF-8 is written with JSON escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return json.dumps(value, indent=indent) if BROKEN.search(text) else text


def asked_images(sources: Sequence[Path]) -> ImageListing:
    """Returns the image files of sources; the caller closes the listing.

    Raises:
        UsageError: a file of texts is among them.
        InvalidInput: see `ImageListing`.
    """
    for source in sources:
        if source.suffix.lower() in TEXTS:
            raise UsageError(f"{source}: a file of texts must be the only source, without images")
    return ImageListing(sources)
