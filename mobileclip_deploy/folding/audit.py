"""What folding did: counts per pass, parameters and modules before and after, and the deviation on real inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mobileclip_deploy.model.architecture import MobileCLIP

__all__ = ["FoldReport", "PassRecord", "count", "relative_deviation"]


@dataclass(frozen=True)
class PassRecord:
    """One pass: blocks folded, and the deviation of the embeddings after it from those before it, its own share."""

    name: str
    folded: int
    deviation: float | None


@dataclass(frozen=True)
class FoldReport:
    """What `fold` did to a model. Deviations are relative, the worst over the inputs and both towers; None where no
    inputs were given or nothing was folded. `deviation` is the largest one from the unfolded model after any pass."""

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
        """For JSON: the fields, and `changed`."""
        return asdict(self) | {"changed": self.changed}


@dataclass(frozen=True)
class Counts:
    parameters: int
    modules: int
    batch_norms: int


def count(model: nn.Module) -> Counts:
    """Parameters, leaf modules that hold some or compute something, and BatchNorms."""
    # Identity stands where something was folded away: it computes nothing.
    leaves = [m for m in model.modules() if not any(m.children()) and not isinstance(m, nn.Identity)]
    return Counts(
        parameters=sum(p.numel() for p in model.parameters()),
        modules=len(leaves),
        batch_norms=sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in leaves),
    )


def relative_deviation(reference: Tensor, other: Tensor) -> float:
    """max over rows of ||other - reference|| / ||reference||, computed in float64: two tensors [N, D] or [N, T, D]."""
    reference, other = reference.double().flatten(1), other.double().flatten(1)
    return float(((other - reference).norm(dim=1) / reference.norm(dim=1)).max())


@torch.no_grad()
def embeddings(model: MobileCLIP, images: Tensor | None, ids: Tensor | None) -> list[Tensor]:
    """Embeddings of the inputs that were given, by the towers that there are: [N, D] each."""
    outputs = []
    if images is not None and model.image is not None:
        outputs.append(model.encode_image(images))
    if ids is not None and model.text is not None:
        outputs.append(model.encode_text(ids))
    return outputs
