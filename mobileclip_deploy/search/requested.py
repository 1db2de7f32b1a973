"""What `embed` is asked for, refused before torch is imported where it cannot be."""

from __future__ import annotations

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
    """Refuse a file that embeddings cannot be written to, and options that it does not take.

    Raises:
        UsageError: an option of an index for another file, or of a new index for one that is kept; another suffix; or a
            file exists, or what is written beside it, and `force` is not given.
    """
    if output.suffix != INDEX_SUFFIX and (store or incremental or prune):
        raise UsageError(
            f"{output}: `store`, `incremental` and `prune` are of an index; give a name that ends with {INDEX_SUFFIX}"
        )
    if prune and not incremental:
        raise UsageError("`prune` goes with `incremental`")
    if incremental and output.exists() and (store or force):
        raise UsageError(f"{output} is there: `store` and `force` are of a new index, `incremental` keeps this one")
    if output.suffix not in FORMATS:
        raise UsageError(f"{output}: give a name that ends with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if output.suffix == INDEX_SUFFIX and output.is_file() and not (incremental or force):
        ways = "add to it with `incremental=True`, replace it with `force=True`"
        raise UsageError(f"{output} exists; {ways}, or choose another output with `output`")
    for file in (output, description_beside(output)):
        if file is not None:
            check_file_destination(file, force or incremental)


def description_beside(output: Path) -> Path | None:
    """The file that describes the embeddings where theirs cannot."""
    return output.with_suffix(".json") if output.suffix == ".npy" else None


def asked_tower(sources: Sequence[Path]) -> TowerName:
    """Which tower embeds them: one file of texts, or else images."""
    return "text" if len(sources) == 1 and sources[0].suffix.lower() in TEXTS else "image"
