"""Vocabularies that checkpoints bring, with the form of the text tower that reads them. They are in the metadata of the
.safetensors file, so that no copy loses them. A vocabulary of another kind than CLIP's may also be in a tokenizer.json
next to it, as published."""

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from mobileclip_deploy.base.files import read_regular
from mobileclip_deploy.base.files.json_text import parse_model
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.errors import REASON, CheckpointError, InvalidInput, UsageError, reraising
from mobileclip_deploy.network.checkpoints.weights_files import TOKENIZER_FILE
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.provenance import Distilled, tensors_sha256
from mobileclip_deploy.network.model.sentencepiece import spec_of
from mobileclip_deploy.network.model.variants import TokenizerSpec, Variant

TOKENIZER, MERGES, DISTILLED = "tokenizer", "merges", "distilled"
FILE_BYTES = 1 << 28
LARGEST_CONTEXT = 4096


def described(tokens: TokenizerSpec, made: Distilled | None = None) -> dict[str, str]:
    """Returns the metadata of a vocabulary and a distillation; nothing for CLIP's vocabulary."""
    metadata = {} if made is None else {DISTILLED: made.model_dump_json(exclude_none=True)}
    if not tokens.from_checkpoint or tokens.missing:
        return metadata
    content = {MERGES: "\n".join(tokens.merges)} if tokens.kind is None else {TOKENIZER_FILE: tokens.file}
    return metadata | {TOKENIZER: tokens.model_dump_json(exclude_none=True)} | content


def with_vocabulary(card: Variant, metadata: Mapping[str, str], path: Path) -> Variant:
    """Returns the variant with the vocabulary that a file brings and the text tower that was distilled with it. If the
    file brings none, the variant stays as it is.

    Raises:
        CheckpointError: the metadata is damaged, its merges are not those that it names, or the form is of an unknown
            variant.
    """
    if MERGES not in metadata and TOKENIZER_FILE not in metadata:
        return card
    damaged = f"{path}: damaged vocabulary in its metadata ({REASON}); get the file again"
    with reraising(damaged, ValidationError, InvalidInput, into=CheckpointError):
        spec = parse_model(TokenizerSpec, metadata.get(TOKENIZER, ""))
        if MERGES in metadata:
            tokens = spec.with_merges(metadata[MERGES].split("\n"))
        else:
            tokens = spec.with_file(metadata[TOKENIZER_FILE])
    if tokens.context_length > LARGEST_CONTEXT:
        raise CheckpointError(
            f"{path}: its context of {tokens.context_length} tokens exceeds the maximum of {LARGEST_CONTEXT}"
        )
    made = distilled(metadata, {}, path)
    unknown = f"{path}: unknown form of its text tower ({REASON})"
    with reraising(unknown, UsageError, into=CheckpointError):
        return card.with_tokenizer(tokens).with_text_form(made.form if made else None)


def with_file_beside(card: Variant, rows: int, path: Path) -> Variant:
    """Returns the variant with the vocabulary in the file next to a checkpoint. Without such a file only its size is
    set: pictures can then be embedded, and texts are refused.

    Args:
        rows: of the checkpoint's table of tokens.

    Raises:
        CheckpointError: the file cannot be used, or has more pieces than the table has rows.
    """
    file = path.parent / TOKENIZER_FILE
    if not file.is_file():
        return card.with_tokenizer(with_fields(card.tokenizer, vocab_size=rows))
    message = f"{file}: {REASON}; get it from where {path.name} is published"
    with reraising(message, OSError, ValueError, InvalidInput, into=CheckpointError):
        tokens = spec_of(read_regular(file, FILE_BYTES).decode("utf-8"), card.tokenizer, rows)
    return card.with_tokenizer(tokens)


def distilled(metadata: Mapping[str, str], weights: Mapping[str, Tensor], path: Path) -> Distilled | None:
    """Reads the record of the text tower's distillation. None for other files.

    Raises:
        CheckpointError: the metadata is damaged, or the image tower has changed since.
    """
    if DISTILLED not in metadata:
        return None
    message = f"{path}: damaged metadata ({REASON}); get the file again"
    with reraising(message, ValidationError, into=CheckpointError):
        record = parse_model(Distilled, metadata[DISTILLED])
    actual = image_sha256(weights)
    if actual not in (None, record.image_sha256):
        raise CheckpointError(
            f"{path}: its text tower was distilled for the image tower of {record.source_file}, but the file has "
            "another image tower; use that one"
        )
    return record


def distilled_from(
    model: MobileCLIP, languages: tuple[str, ...], form: str | None = None, cut_from: int | None = None
) -> Distilled:
    """Makes the record of a checkpoint with another text tower in this model's space. `form`, `cut_from`: see
    `Distilled`.

    Raises:
        UsageError: the model has no image tower, whose space it would be.
    """
    image, origin = image_sha256(model.state_dict()), model.provenance
    if image is None:
        raise UsageError("a text tower alone has no embedding space for pictures; give a checkpoint with both towers")
    assert origin is not None
    assert origin.weights is not None
    return Distilled(
        languages=languages,
        source_file=origin.file,
        source_sha256=origin.sha256,
        source_weights=origin.weights,
        image_sha256=image,
        form=form,
        cut_from=cut_from,
    )


def image_sha256(weights: Mapping[str, Tensor]) -> str | None:
    """Returns the SHA-256 of the image tower's tensors in float32, by our own names. None without an image tower."""
    tower = {name: value for name, value in weights.items() if name.startswith("image.") and value.is_floating_point()}
    return tensors_sha256({name: value.to(torch.float32).numpy() for name, value in tower.items()}) if tower else None
