"""What an open checkpoint is: its layout, its variant, its towers, and what is worth saying about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobileclip_deploy.checkpoints import folded, llava, open_clip
from mobileclip_deploy.checkpoints.fitting import (
    closest_variant,
    expected,
    find_layout,
    find_towers,
    fit,
    fitting_variants,
)
from mobileclip_deploy.checkpoints.reading import TensorFile
from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.model.provenance import Provenance
from mobileclip_deploy.model.variants import TOWERS, Variant, load_variant

__all__ = ["Identity", "choose", "identify"]

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


REPARAMETERIZED = (".reparam_conv.", ".lkb_reparam.")


@dataclass(frozen=True)
class Identity:
    """What a checkpoint is. `file` has the names that its layout's key map speaks of; `source` is what a folded file
    says about the checkpoint it was made from."""

    file: TensorFile
    variant: str
    layout: str
    towers: tuple[str, ...]
    notes: tuple[str, ...] = ()
    source: Provenance | None = None

    @property
    def source_layout(self) -> str:
        """The layout that defines the network: a folded file's is that of the checkpoint it was made from."""
        return self.source.layout if self.source else self.layout


def identify(file: TensorFile, variant: str | None = None, repository: str | None = None) -> Identity:
    """Tell what an open checkpoint is, of itself or as a checkpoint of `variant`.

    Args:
        file: from `open_tensors`.
        variant: the variant it must be of.
        repository: where on the hub it came from, which tells variants of the same network apart.

    Raises:
        CheckpointError: it is of no known layout, or does not fit the variant (or any); says what differs, and which
            variant would fit.
        UsageError: unknown variant.
    """
    try:
        layout = find_layout(file.shapes)
    except CheckpointError as error:
        raise CheckpointError(f"{file.path}: {error}") from None
    _refuse_reparameterized(file, layout)
    if layout == folded.NAME:
        return _identify_folded(file, variant)
    if layout == open_clip.NAME:
        file = file.renamed(open_clip.canonical_names(file.shapes))
    if layout == llava.NAME:
        file = replace(file.renamed(llava.canonical_names(file.shapes)), notes=(*file.notes, llava.NOTE))
    towers = find_towers(layout, file.shapes)
    notes: tuple[str, ...] = ()
    if variant is not None:
        name = _required(file, layout, towers, variant)
    else:
        fits = fitting_variants(layout, file.shapes)
        if not fits:
            _refuse_misfit(file, layout, closest_variant(layout, file.shapes))
        if _has_zero_bias(file, layout, fits[0], towers):
            # Written by a conversion from Apple's layout, so of a variant that exists there.
            fits = [fit for fit in fits if "apple" in load_variant(fit).layouts] or fits
        hints = [hint for hint in (repository, file.metadata.get("variant")) if hint]
        name, notes = choose(fits, layout, towers, file.path, hints)
    notes = (*file.notes, *notes, *_missing_tower(towers, name), *_converted(file, layout, name, towers))
    return Identity(file, name, layout, towers, notes)


def _identify_folded(file: TensorFile, variant: str | None) -> Identity:
    source = folded.provenance(file.metadata, file.path)
    if variant is not None and load_variant(variant).name != source.variant:
        raise CheckpointError(
            f"{file.path} is a {source.variant} checkpoint, not {load_variant(variant).name}; leave `variant` out"
        )
    result = fit(expected(source.variant, folded.NAME, source.layout, source.towers), file.shapes)
    if not result.exact:
        raise CheckpointError(
            f"{file.path} is no whole folded {source.variant}: {result.describe()}; "
            "write it again with `reparameterize`"
        )
    notes = _missing_tower(source.towers, source.variant)
    return Identity(file, source.variant, folded.NAME, source.towers, notes, source)


def _required(file: TensorFile, layout: str, towers: tuple[str, ...], variant: str) -> str:
    card = load_variant(variant)
    if layout not in card.layouts:
        fits = fitting_variants(layout, file.shapes)
        hint = f"it fits {' and '.join(fits)}" if fits else f"{card.name} comes in {' and '.join(card.layouts)} layout"
        raise CheckpointError(f"{file.path} is in {layout} layout, which {card.name} has no checkpoints in; {hint}")
    if not fit(expected(card.name, layout, None, towers), file.shapes).exact:
        _refuse_misfit(file, layout, card.name)
    return card.name


def _refuse_misfit(file: TensorFile, layout: str, name: str) -> None:
    result = fit(expected(name, layout, None, find_towers(layout, file.shapes)), file.shapes)
    others = [other for other in fitting_variants(layout, file.shapes) if other != name]
    hint = (
        f"it fits {' and '.join(others)}" if others else "give a checkpoint of a known variant (`variants` lists them)"
    )
    raise CheckpointError(f"{file.path} does not fit {name}: {result.describe()}; {hint}")


def _refuse_reparameterized(file: TensorFile, layout: str) -> None:
    done = sum(any(mark in key for mark in REPARAMETERIZED) for key in file.shapes)
    if done and layout not in (folded.NAME, llava.NAME):
        raise CheckpointError(
            f"{file.path} is already reparameterized, wholly or in part ({done} tensors), which leaves BatchNorms "
            "behind that can no longer be checked; give the training checkpoint"
        )


def _missing_tower(towers: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(f"the checkpoint has no {tower} tower" for tower in load_variant(name).towers if tower not in towers)


def _has_zero_bias(file: TensorFile, layout: str, name: str, towers: tuple[str, ...]) -> bool:
    """Whether an open_clip file has the projection bias that a conversion from Apple's layout adds: all zero."""
    definition = load_variant(name).for_layout(layout)
    if layout != open_clip.NAME or "image" not in towers or not definition.image.projection_bias:
        return False
    key, _ = open_clip.keymap(definition).theirs("image.projection.bias")
    return not file.read(key).any()


def _converted(file: TensorFile, layout: str, name: str, towers: tuple[str, ...]) -> tuple[str, ...]:
    """A warning where open_clip's form of Apple's weights is not the same network.

    Apple's projection has no bias; timm's head has one, which timm's conversion sets to zero and training moves. Both
    compute the same for MCi towers, but timm's ViT-B/16 pads its stem differently.
    """
    card = load_variant(name)
    if not {"apple", "open_clip"} <= card.layouts.keys() or not _has_zero_bias(file, layout, name, towers):
        return ()
    apple, theirs = card.for_layout("apple").image, card.for_layout(layout).image
    if theirs == apple.model_copy(update={"projection_bias": True}):
        return ()
    return (
        f"{file.path.name} looks converted from Apple's layout (its projection bias is all zero): open_clip "
        f"pads the stem and sets epsilons differently, so the embeddings are not those Apple trained; prefer Apple's "
        f"own {name}.pt",
    )
