"""From a checkpoint file to a model: layout and variant told by its keys and shapes, weights checked."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mobileclip_deploy.architecture import MobileCLIP
from mobileclip_deploy.checkpoints import apple, folded
from mobileclip_deploy.checkpoints.fitting import (
    closest_variant,
    empty_model,
    expected,
    find_layout,
    fit,
    fitting_variants,
)
from mobileclip_deploy.checkpoints.reading import TensorFile, open_tensors
from mobileclip_deploy.errors import CheckpointError, UsageError
from mobileclip_deploy.provenance import Provenance, file_sha256
from mobileclip_deploy.variants import Variant, load_variant, models_dir

__all__ = ["builtin_checkpoint", "identify", "load"]

BUILTIN = "nano"
REPARAMETERIZED = (".reparam_conv.", ".lkb_reparam.")


def builtin_checkpoint() -> Path:
    """The trained checkpoint that comes with the package."""
    return models_dir() / BUILTIN / "weights.safetensors"


def load(path: Path, variant: str | None = None) -> MobileCLIP:
    """Load a checkpoint into a model in eval mode, float32, with its `variant` and `provenance`.

    Training checkpoints give the training form, folded ones the folded form. Nothing in the file is executed.

    Args:
        path: .pt, .bin or .safetensors; weights in float16, bfloat16, float32 or float64.
        variant: name of the variant it must be of; told from keys and shapes when None.

    Raises:
        CheckpointError: unreadable, not of a known layout, not of the variant, half-folded, or not finite.
        UsageError: unknown variant.
    """
    if variant is not None:
        load_variant(variant)  # refuses an unknown name before the file is read
    file = open_tensors(path)
    name, layout = identify(file, variant)
    source = folded.provenance(file.metadata, path) if layout == folded.NAME else None
    source_layout = source.layout if source else layout
    card = load_variant(name)
    model = empty_model(card, layout, source_layout)
    table = expected(name, layout, source_layout)
    weights = {
        ours: _read(file, entry.key, entry.convert.ours) if entry.key in file.shapes else torch.tensor(0)
        for ours, entry in table.items()
    }
    model.load_state_dict(weights, assign=True)
    model.provenance = source or _provenance(path, card, layout)
    return model.requires_grad_(False).eval()


def identify(file: TensorFile, variant: str | None = None) -> tuple[str, str]:
    """The variant and layout of an open checkpoint: (name, layout).

    Raises:
        CheckpointError: it is of no known layout, or does not fit the variant (or any); says what differs, and which
            variant would fit.
    """
    layout = find_layout(file.shapes)
    _refuse_reparameterized(file, layout)
    if layout == folded.NAME:
        source = folded.provenance(file.metadata, file.path)
        _check_fit(file, layout, source.variant, source.layout)
        if variant is not None and load_variant(variant).name != source.variant:
            raise CheckpointError(f"{file.path} is a {source.variant} checkpoint, not {load_variant(variant).name}")
        return source.variant, layout
    if variant is not None:
        card = load_variant(variant)
        if layout not in card.layouts:
            raise CheckpointError(f"{file.path} is in {layout} layout, which {card.name} has no checkpoints in")
        _check_fit(file, layout, card.name, layout)
        return card.name, layout
    fits = fitting_variants(layout, file.shapes)
    if not fits:
        _check_fit(file, layout, closest_variant(layout, file.shapes), layout)
    named = [name for name in fits if name in file.path.name.lower().replace("-", "_")]
    return max(named, key=len) if named else fits[0], layout


def _check_fit(file: TensorFile, layout: str, name: str, source_layout: str) -> None:
    result = fit(expected(name, layout, source_layout), file.shapes)
    if result.exact:
        return
    others = [other for other in fitting_variants(layout, file.shapes) if other != name] if layout == apple.NAME else []
    hint = f"; it fits {' and '.join(others)}" if others else ""
    raise CheckpointError(f"{file.path} does not fit {name}{hint}: {result.describe()}")


def _refuse_reparameterized(file: TensorFile, layout: str) -> None:
    done = sum(any(mark in key for mark in REPARAMETERIZED) for key in file.shapes)
    if done and layout != folded.NAME:
        raise CheckpointError(
            f"{file.path} is already reparameterized, wholly or in part ({done} tensors), which leaves BatchNorms behind "
            "that can no longer be checked; give the training checkpoint"
        )


def _read(file: TensorFile, key: str, convert) -> Tensor:  # type: ignore[no-untyped-def]
    value = file.read(key)
    if not value.is_floating_point():
        return convert(value) if value.dim() else value
    if not torch.isfinite(value).all():
        raise CheckpointError(f"{file.path}: {key} holds NaN or infinite weights")
    value = value.to(torch.float32)
    return convert(value) if value.dim() else value


def _provenance(path: Path, card: Variant, layout: str) -> Provenance:
    return Provenance(
        variant=card.name,
        layout=layout,
        sha256=file_sha256(path),
        file=path.name,
        licence=card.licence.name,
        research_only=card.licence.research_only,
        builtin=path.resolve() == builtin_checkpoint().resolve(),
    )
