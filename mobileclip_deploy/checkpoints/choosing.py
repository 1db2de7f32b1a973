"""Which of the variants that a checkpoint fits it is of: several share keys and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.model.variants import TOWERS, Variant, load_variant

__all__ = ["choose"]

# A hub cache puts a file three folders below the one that names its repository.
PARENTS = 4


def choose(
    fits: Sequence[str], layout: str, towers: tuple[str, ...], path: Path, hints: Sequence[str] = ()
) -> tuple[str, tuple[str, ...]]:
    """The variant, and what the user should know about the choice.

    What names one decides: `hints` (metadata, the repository it came from), then the file's name, then its folders'.
    Without, variants that compute the same differ in name and licence alone, and the first is taken, with a note;
    those that compute different things from the same keys (a causal mask, quick GELU) are refused.

    Raises:
        CheckpointError: the fitting variants compute different things and nothing names one.
    """
    if len(fits) == 1:
        return fits[0], ()
    for text in (*hints, path.name, *(folder.name for folder in list(path.absolute().parents)[:PARENTS])):
        named = _named(fits, text)
        if named:
            return named, ()
    if len({_network(load_variant(name).for_layout(layout), towers) for name in fits}) > 1:
        raise CheckpointError(
            f"{path} fits {', '.join(fits)}, which compute different things from the same keys; "
            "say which with `variant`"
        )
    others = " or ".join(fits[1:])
    return fits[0], (f"{path.name} is taken for {fits[0]}; {others} is the same network: `variant` says which it is",)


def _named(names: Sequence[str], text: str) -> str | None:
    """The variant that a text names: the one with the longest name in it, in whole words."""
    words = _words(text)
    hits = [(len(alias), name) for name in names for alias in _aliases(load_variant(name)) if alias in words]
    return max(hits)[1] if hits else None


def _aliases(variant: Variant) -> Iterator[str]:
    yield _words(variant.name)
    for source in variant.sources:
        yield _words(source.repository.rpartition("/")[2])


def _words(text: str) -> str:
    return "-" + re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") + "-"


def _network(variant: Variant, towers: tuple[str, ...]) -> str:
    """What decides an embedding, as text."""
    parts = {"image": (variant.image, variant.preprocess), "text": (variant.text, variant.tokenizer)}
    return repr([parts[tower] for tower in TOWERS if tower in towers])
