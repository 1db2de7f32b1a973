"""`reparameterize`: a model folded, and how far that moved its answers to real inputs."""

from __future__ import annotations

import torch

from mobileclip_deploy.folding import FoldReport, fold, is_folded
from mobileclip_deploy.model.architecture import MobileCLIP
from mobileclip_deploy.model.preprocessing import normalize
from mobileclip_deploy.towers.inputs import sample_inputs

__all__ = ["reparameterize"]


def reparameterize(model: MobileCLIP) -> FoldReport:
    """Fold every branch and BatchNorm of a model, in place, and measure on the sample images and prompts what changed.

    Raises:
        FoldingError: training mode, half-folded, or an output that moved by more than rounding explains.
    """
    if is_folded(model):
        return fold(model)
    inputs = sample_inputs(model)
    pixels, ids = torch.from_numpy(inputs.pixels), torch.from_numpy(inputs.ids)
    return fold(
        model,
        normalize(pixels, model.variant.preprocess) if "image" in model.towers else None,
        ids if "text" in model.towers else None,
    )
