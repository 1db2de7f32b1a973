"""A vocabulary that a checkpoint brings, and the form of the text tower that reads it: in the metadata of its
.safetensors file, where no copy can lose it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from mobileclip_deploy.errors import CheckpointError, InvalidInput, UsageError, first_problem
from mobileclip_deploy.model.provenance import Distilled, tensors_sha256
from mobileclip_deploy.model.variants import TokenizerSpec, Variant

__all__ = ["MERGES", "described", "distilled", "image_sha256", "with_vocabulary"]

TOKENIZER, MERGES, DISTILLED = "tokenizer", "merges", "distilled"
LARGEST_CONTEXT = 4096


def described(tokens: TokenizerSpec | None, made: Distilled | None = None) -> dict[str, str]:
    """Metadata that says so: nothing where the vocabulary is CLIP's."""
    found = {} if made is None else {DISTILLED: made.model_dump_json()}
    if tokens is None or tokens.merges_sha256 is None:
        return found
    return found | {TOKENIZER: tokens.model_dump_json(), MERGES: "\n".join(tokens.merges)}


def with_vocabulary(card: Variant, metadata: Mapping[str, str], path: Path) -> Variant:
    """The variant with the vocabulary that a file brings and the text tower that was distilled with it; as it is where
    the file brings none.

    Raises:
        CheckpointError: the metadata is damaged, its merges are not those that it names, or the form is of an unknown
            variant.
    """
    if MERGES not in metadata:
        return card
    try:
        told = TokenizerSpec.model_validate_json(metadata.get(TOKENIZER, ""))
        tokens = told.with_merges(metadata[MERGES].split("\n"))
    except (ValidationError, InvalidInput) as error:
        why = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise CheckpointError(f"{path}: damaged vocabulary in its metadata ({why}); get the file again") from error
    if tokens.context_length > LARGEST_CONTEXT:
        raise CheckpointError(f"{path}: a context of {tokens.context_length} tokens; {LARGEST_CONTEXT} are the most")
    made = distilled(metadata, {}, path)
    try:
        return card.with_tokenizer(tokens).with_text_form(made.form if made else None)
    except UsageError as error:
        raise CheckpointError(f"{path}: the form of its text tower is not known here ({error})") from error


def distilled(metadata: Mapping[str, str], weights: Mapping[str, Tensor], path: Path) -> Distilled | None:
    """What the text tower was distilled from; None of other files.

    Raises:
        CheckpointError: the metadata is damaged, or the image tower is another one since.
    """
    if DISTILLED not in metadata:
        return None
    try:
        found = Distilled.model_validate_json(metadata[DISTILLED])
    except ValidationError as error:
        raise CheckpointError(f"{path}: damaged metadata ({first_problem(error)}); get the file again") from error
    own = image_sha256(weights)
    if own not in (None, found.image_sha256):
        raise CheckpointError(
            f"{path}: its text tower was distilled for the image tower of {found.source_file}, and it holds another "
            "one; take the image tower of that checkpoint"
        )
    return found


def image_sha256(weights: Mapping[str, Tensor]) -> str | None:
    """SHA-256 of the image tower's tensors in float32, by our own names; None where there is no image tower."""
    tower = {name: value for name, value in weights.items() if name.startswith("image.") and value.is_floating_point()}
    return tensors_sha256({name: value.to(torch.float32).numpy() for name, value in tower.items()}) if tower else None
