"""Loading of a checkpoint file as a model: layout, towers and variant by keys and shapes, weights checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.errors import CheckpointError
from mobileclip_deploy.network.checkpoints.fitting import POSITIONS, ExpectedTensor, grid_side
from mobileclip_deploy.network.checkpoints.identity import Identity, identify
from mobileclip_deploy.network.checkpoints.preprocessing import CARD, card_notes, chosen_preprocess
from mobileclip_deploy.network.checkpoints.tensor_files import TensorFile, open_tensors
from mobileclip_deploy.network.checkpoints.vocabulary import distilled
from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint, checkpoint_file, checkpoint_sha256
from mobileclip_deploy.network.model.architecture import FIRST_LOGIT_BIAS, MobileCLIP
from mobileclip_deploy.network.model.provenance import Provenance, TakenPreprocess, tensors_sha256
from mobileclip_deploy.network.model.variants import ViTTower, load_variant

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)
METHOD = "bicubic, antialiased, class token kept"


@dataclass(frozen=True)
class Origin:
    """Facts about a file before it is opened: its place on the hub, and its SHA-256."""

    repository: str | None = None
    revision: str | None = None
    sha256: str | None = None


def load(
    path: Path,
    variant: str | None = None,
    image_size: int | None = None,
    origin: Origin | None = None,
    preprocess: str | Path | TakenPreprocess | None = None,
) -> MobileCLIP:
    """Loads a checkpoint into a model in eval mode, float32, with its `variant`, `towers` and `provenance`.

    Training checkpoints give the training form. Folded ones, whole or partly, give the folded form. Nothing in the file
    is executed. `provenance.notes` lists assumptions and ignored parts.

    Args:
        path: .pt, .bin or .safetensors; weights in float16, bfloat16, float32 or float64.
        variant: name of the variant it must be of; identified by keys and shapes when None.
        image_size: in pixels, if the checkpoint was fine-tuned at, or is to be used at, another than the variant's. A
            ViT's position table for another size is resampled (`resample`).
        origin: of the file, for the provenance; a known hash is not computed again.
        preprocess: see `chosen_preprocess`.

    Raises:
        CheckpointError: unreadable, not of a known layout, not of the variant, half-folded, or not finite; or
            fine-tuned with open_clip with unknown preprocessing.
        InvalidInput: the file of the preprocessing cannot be used.
        UsageError: unknown variant or preprocessing, or an image size its tower cannot take.
    """
    card = None if variant is None else load_variant(variant)  # refuses an unknown name before the file is read
    origin, path = origin or Origin(), checkpoint_file(path)
    identity = identify(open_tensors(path), card, origin.repository)
    pictures = chosen_preprocess(identity, preprocess, origin.repository)
    return load_identified(identity, path, origin, image_size, pictures)


def load_identified(
    identity: Identity,
    path: Path,
    origin: Origin,
    image_size: int | None = None,
    taken: TakenPreprocess | None = None,
    read: Mapping[str, Tensor] | None = None,
) -> MobileCLIP:
    """Loads as `load` does, from an identified checkpoint. `read`: tensors that `read_weight` returned, by our
    names."""
    weights = _weights(identity, read or {})
    model = assemble(identity, image_size, weights)
    # Without the counters of batches, which decide nothing and which some files leave out.
    weights_hash = tensors_sha256({name: value.numpy() for name, value in weights.items() if value.is_floating_point()})
    record = _provenance(identity, path, model, origin, weights_hash)
    if identity.source is None and (made := distilled(identity.file.metadata, weights, path)) is not None:
        record = with_fields(record, distilled=made)
    if taken is not None:
        values = taken.model_dump(exclude={"taken_from"})
        pictures = with_fields(model.variant.preprocess, **values)
        model.variant = with_fields(model.variant, preprocess=pictures)
        record = with_fields(record, preprocess=taken, notes=(*record.notes, *_told(taken)))
    elif notes := card_notes(identity, origin.repository):
        record = with_fields(record, notes=(*record.notes, *notes))
    model.provenance, model.trained_head = record, identity.head
    return model


def _told(taken: TakenPreprocess) -> tuple[str, ...]:
    if taken.taken_from == CARD:
        return ()
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (taken.mean, taken.std))
    return (f"pictures as {taken.taken_from} says: mean {mean}, std {std}, {taken.interpolation}",)


def _weights(identity: Identity, read: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads every tensor of an identified checkpoint in float32, by our own names; those in `read` are not read
    again."""
    return {
        ours: _float32(identity.file, entry, read[ours] if ours in read else read_weight(identity.file, entry, ours))
        for ours, entry in identity.candidate.expected.items()
    }


def assemble(
    identity: Identity, image_size: int | None = None, weights: Mapping[str, Tensor] | None = None
) -> MobileCLIP:
    """Builds the model of an identified checkpoint, without provenance. `weights`: its tensors, if they were already
    read. Raises as `load` does."""
    card = identity.variant
    own_size = _size_in_file(identity)
    size = image_size or own_size or card.preprocess.size
    model = identity.candidate.empty_model(size)
    weights = dict(weights or _weights(identity, {}))
    if isinstance(card.image, ViTTower) and own_size not in (None, size):
        weights[POSITIONS] = resample(
            weights[POSITIONS], size // card.image.patch, class_token=card.image.class_token_position
        )
    # assign: the model is on the meta device, so there is nothing to copy into.
    model.load_state_dict(weights, assign=True)
    if not model.scores.bounded:
        reason = "logit_scale or logit_bias is out of range for scores in float32"
        raise CheckpointError(f"{identity.file.path}: {reason}; give an undamaged file")
    return model.requires_grad_(False).eval()


def resample(table: Tensor, side: int, class_token: bool) -> Tensor:
    """Resamples a position table [1? + s * s, C] float32 to a grid of `side` x `side` patches: [1? + side * side, C].

    Bicubic with antialiasing, the class token's row unchanged, as open_clip's `resize_pos_embed` and timm's
    `resample_abs_pos_embed` do.
    """
    head, grid = table[: int(class_token)], table[int(class_token) :]
    old = math.isqrt(grid.shape[0])
    grid = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)  # [s * s, C] -> [1, C, s, s]
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat((head, grid.permute(0, 2, 3, 1).reshape(side * side, -1)))  # back to rows of C, row by row


def _size_in_file(identity: Identity) -> int | None:
    """Returns the image size of the file, from its position table or from a folded file's metadata. None if unknown."""
    card = identity.variant
    if identity.source is not None and identity.source.image_size is not None:
        return identity.source.image_size
    if not isinstance(card.image, ViTTower) or "image" not in identity.towers:
        return None
    rows = identity.file.shapes[identity.candidate.expected[POSITIONS].key][-2]
    side = grid_side(rows, card.image.class_token_position)
    assert side is not None  # or the file would not have fitted
    return side * card.image.patch


def read_weight(file: TensorFile, entry: ExpectedTensor, ours: str) -> Tensor:
    """Reads one tensor of a fitting file, in its own dtype and our shape: finite and floating-point, or a counter.

    Raises:
        CheckpointError: it cannot be read, is not floating-point, holds NaN or infinity, or is a negative variance.
    """
    if entry.key not in file.shapes:
        return torch.tensor({"logit_scale": INITIAL_LOGIT_SCALE, "logit_bias": FIRST_LOGIT_BIAS}.get(ours, 0))
    value = file.read(entry.key)
    if not ours.endswith("num_batches_tracked"):
        if not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{file.path}: {entry.key} holds {kind} weights; give the float checkpoint")
        if not _is_finite(value):
            raise CheckpointError(f"{file.path}: {entry.key} holds NaN or infinite weights; give an undamaged file")
        if ours.endswith("running_var") and bool((value < 0).any()):
            raise CheckpointError(
                f"{file.path}: {entry.key} holds a negative variance, which a BatchNorm cannot have; give an undamaged "
                "file"
            )
    return entry.convert.ours(value) if entry.shape else value.reshape(())


def _is_finite(value: Tensor) -> bool:
    """Returns whether all values are finite. One sum decides, many times faster, unless it overflows."""
    wide = torch.float64 if value.dtype == torch.float64 else torch.float32
    return bool(torch.isfinite(value.sum(dtype=wide)) or torch.isfinite(value).all())


def _float32(file: TensorFile, entry: ExpectedTensor, value: Tensor) -> Tensor:
    if value.dtype in (torch.float32, torch.int64):
        return value
    value = value.to(torch.float32)
    if not _is_finite(value):
        raise CheckpointError(f"{file.path}: {entry.key} has weights too large for float32; scale them down")
    return value


def _provenance(identity: Identity, path: Path, model: MobileCLIP, origin: Origin, weights: str) -> Provenance:
    size, card = model.variant.preprocess.size, identity.variant
    own_size = _size_in_file(identity)
    notes = list(identity.notes)
    if isinstance(card.image, ViTTower) and own_size not in (None, size):
        notes.append(f"the position table was resampled from {own_size} to {size} px ({METHOD})")
    elif size != card.preprocess.size and (identity.source is None or identity.source.image_size != size):
        notes.append(f"image size {size} px; {card.name} was published at {card.preprocess.size}")
    other_size = size if size != card.preprocess.size else None
    if identity.source is not None:
        update: dict[str, Any] = {
            "image_size": other_size,
            "notes": tuple(dict.fromkeys((*identity.source.notes, *notes))),
            # The writer of a file does not decide its licence.
            "licence": card.licence.name,
            "research_only": card.licence.research_only,
        }
        return with_fields(identity.source, **update)
    return Provenance(
        variant=card.name,
        layout=identity.layout,
        sha256=origin.sha256 or checkpoint_sha256(path),
        file=path.name,
        licence=card.licence.name,
        research_only=card.licence.research_only,
        builtin=path.resolve() == builtin_checkpoint().resolve(),
        repository=origin.repository,
        revision=origin.revision,
        towers=identity.towers,
        image_size=other_size,
        notes=tuple(notes),
        weights=weights,
    )
