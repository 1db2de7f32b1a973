"""Checks of the arguments of `embed` that do not need torch, so that they run before torch is imported."""

from collections.abc import Sequence
from pathlib import Path

from mobileclip_deploy.base.arguments import StoreName
from mobileclip_deploy.base.files import check_file_destination
from mobileclip_deploy.base.files.names import INDEX_SUFFIX
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.variants import TowerName

FORMATS = (".safetensors", ".jsonl", ".npy", INDEX_SUFFIX)
TEXTS = (".txt", ".jsonl")


def check_embedding_output(output: Path, store: StoreName | None, incremental: bool, prune: bool, force: bool) -> None:
    """Refuses a file that embeddings cannot be written to, and options that do not apply to it.

    Raises:
        UsageError: the suffix is unknown; an option of indices is used with another file, or one of new indices with an
            existing index; or the file or its description exists, and `force` is not given.
    """
    if output.suffix != INDEX_SUFFIX and (store or incremental or prune):
        raise UsageError(
            f"{output}: `store`, `incremental` and `prune` are for an index; give a name that ends with {INDEX_SUFFIX}"
        )
    if prune and not incremental:
        raise UsageError("`prune` needs `incremental`")
    if incremental and output.exists() and (store or force):
        raise UsageError(f"{output} exists: `store` and `force` are for a new index, `incremental` keeps this one")
    if output.suffix not in FORMATS:
        raise UsageError(f"{output}: give a name that ends with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if output.suffix == INDEX_SUFFIX and output.is_file() and not (incremental or force):
        ways = "add to it with `incremental=True`, replace it with `force=True`"
        raise UsageError(f"{output} exists; {ways}, or choose another output with `output`")
    for file in (output, description_beside(output)):
        if file is not None:
            check_file_destination(file, force or incremental)


def description_beside(output: Path) -> Path | None:
    """Returns the path of the .json file that describes an array; None for formats with a description inside."""
    return output.with_suffix(".json") if output.suffix == ".npy" else None


def tower_of_sources(sources: Sequence[Path]) -> TowerName:
    """Returns the tower that embeds the sources: "text" for one file of texts, else "image"."""
    return "text" if len(sources) == 1 and sources[0].suffix.lower() in TEXTS else "image"
