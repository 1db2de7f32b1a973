"""Structural reparameterization: every branch and every BatchNorm is folded away, pass by pass.

`fold` runs the passes in order and audits them. To add a pass: one `FoldPass`, one entry in PASSES.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mobileclip_deploy.errors import FoldingError
from mobileclip_deploy.network.folding.batch_norms import FoldAttentionNorm, FoldConvBN
from mobileclip_deploy.network.folding.branches import FoldLargeKernel, FoldMobileOne, FoldRepCPE, FoldRepMixer
from mobileclip_deploy.network.folding.fold_pass import FoldPass
from mobileclip_deploy.network.folding.pooling import FoldPooledQuery
from mobileclip_deploy.network.model.architecture import MobileCLIP

__all__ = [
    "FoldPass",
    "FoldReport",
    "PASSES",
    "PassRecord",
    "count",
    "fold",
    "fold_structure",
    "is_folded",
    "relative_deviation",
]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class PassRecord:
    """One pass: the number of folded blocks, and the deviation of the embeddings after it from those before it."""

    name: str
    folded: int
    deviation: float | None


@dataclass(frozen=True)
class FoldReport:
    """Result of `fold`. Deviations are relative, the worst over the inputs and both towers; None without inputs or if
    nothing was folded. `deviation` is the largest one from the unfolded model after any pass."""

    passes: tuple[PassRecord, ...]
    parameters_before: int
    parameters_after: int
    modules_before: int
    modules_after: int
    batch_norms_before: int
    batch_norms_after: int
    deviation: float | None

    @property
    def changed(self) -> bool:
        return any(record.folded for record in self.passes)

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields, and `changed`, for JSON."""
        return asdict(self) | {"changed": self.changed}


@dataclass(frozen=True)
class Counts:
    parameters: int
    modules: int
    batch_norms: int


def count(model: nn.Module) -> Counts:
    """Counts parameters, leaf modules that hold some or compute something, and BatchNorms."""
    # Identity replaces folded modules: it computes nothing.
    leaves = [m for m in model.modules() if not any(m.children()) and not isinstance(m, nn.Identity)]
    return Counts(
        parameters=sum(p.numel() for p in model.parameters()),
        modules=len(leaves),
        batch_norms=sum(isinstance(m, BATCH_NORMS) for m in leaves),
    )


def relative_deviation(reference: Tensor, other: Tensor) -> float:
    """Returns max over rows of ||other - reference|| / ||reference||, in float64, of two tensors [N, D] or [N, T,
    D]."""
    reference, other = reference.double().flatten(1), other.double().flatten(1)
    return float(((other - reference).norm(dim=1) / reference.norm(dim=1)).max())


@torch.no_grad()
def embeddings(model: MobileCLIP, images: Tensor | None, ids: Tensor | None) -> list[Tensor]:
    """Returns embeddings [N, D] of the given inputs, by the towers that exist."""
    outputs = []
    if images is not None and model.image is not None:
        outputs.append(model.encode_image(images))
    if ids is not None and model.text is not None:
        outputs.append(model.encode_text(ids))
    return outputs


# In this order: RepMixer consumes folded MobileOne blocks, and conv-bn takes the pairs that nothing else took.
PASSES: tuple[FoldPass[Any], ...] = (
    FoldMobileOne(),
    FoldLargeKernel(),
    FoldRepMixer(),
    FoldRepCPE(),
    FoldConvBN(),
    FoldAttentionNorm(),
    FoldPooledQuery(),
)
# A wrong fold moves embeddings by percents. Rounding stays below this even where random weights amplify it.
LARGEST_DEVIATION = 1e-3


def fold(model: MobileCLIP, images: Tensor | None = None, ids: Tensor | None = None) -> FoldReport:
    """Folds a model in place, in float64 arithmetic rounded once per layer; folding twice changes nothing.

    Args:
        model: in eval mode, on any device and in any float dtype.
        images: [N, 3, S, S] after all preprocessing, to measure the deviation on; not measured when None.
        ids: [N, L] token ids, likewise.

    Raises:
        FoldingError: training mode, half-folded, a variance below 0, a BatchNorm left, or an output that moved by more
            than 1e-3.
    """
    _require_one_form(model)
    before = count(model)
    reference = before_pass = embeddings(model, images, ids)
    records = []
    largest: float | None = None
    for fold_pass in PASSES:
        folded = fold_pass.apply(model)
        fold_pass.ensures(model)
        deviation = None
        if folded and reference:
            outputs = embeddings(model, images, ids)
            deviation, whole = (max(map(relative_deviation, old, outputs)) for old in (before_pass, reference))
            if not whole <= LARGEST_DEVIATION:
                raise FoldingError(f"the {fold_pass.name} fold changed the embeddings by {whole:.1e} (relative)")
            before_pass, largest = outputs, max(whole, largest or 0.0)
        records.append(PassRecord(fold_pass.name, folded, deviation))
    after = count(model)
    if after.batch_norms:
        raise FoldingError(f"{after.batch_norms} BatchNorms are left, in structures that no fold pass supports")
    return FoldReport(
        passes=tuple(records),
        parameters_before=before.parameters,
        parameters_after=after.parameters,
        modules_before=before.modules,
        modules_after=after.modules,
        batch_norms_before=before.batch_norms,
        batch_norms_after=after.batch_norms,
        deviation=largest,
    )


def _require_one_form(model: MobileCLIP) -> None:
    for fold_pass in PASSES:
        fold_pass.requires(model)
    for name, module in model.named_modules():
        variance = module.running_var if isinstance(module, nn.BatchNorm2d) else None
        if variance is not None and not bool((variance >= 0).all()):
            raise FoldingError(f"{name} has a running variance that is negative or NaN; nothing was folded")
    blocks = [(fold_pass, module) for fold_pass in PASSES for _, module in fold_pass.blocks(model)]
    pending = {fold_pass.name for fold_pass, module in blocks if fold_pass.pending(module)}
    done = {fold_pass.name for fold_pass, module in blocks if fold_pass.folded(module)}
    if pending and done:
        raise FoldingError(f"half-folded: {', '.join(sorted(done))} done, {', '.join(sorted(pending))} not")


def fold_structure(model: MobileCLIP) -> MobileCLIP:
    """Folds without a check of the outputs. Used on the meta device for the shape that folded checkpoints load into."""
    for fold_pass in PASSES:
        fold_pass.apply(model)
    return model


def is_folded(model: MobileCLIP) -> bool:
    """Returns whether no block is in training form."""
    return not any(fold_pass.pending(module) for fold_pass in PASSES for _, module in fold_pass.blocks(model))
