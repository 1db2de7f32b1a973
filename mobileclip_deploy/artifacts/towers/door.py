"""`reparameterize`: a model folded, and how far that moved its answers to real inputs."""

from __future__ import annotations

import json

import torch

from mobileclip_deploy.base.files import StrPath, optional_path, write_whole
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.network.checkpoints import folded
from mobileclip_deploy.network.checkpoints.weights_files import check_folded_output
from mobileclip_deploy.network.folding import FoldReport, fold, is_folded
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.network.model.preprocessing import normalize


def reparameterize(model: MobileCLIP, output: StrPath | None = None, *, force: bool = False) -> FoldReport:
    """Fold every branch and BatchNorm of a model, in place, and measure on the sample images and prompts what changed.

    Args:
        model: from `load_model`.
        output: .safetensors, where the folded checkpoint is written, with the report as JSON beside it
            (`NAME.report.json`); nothing is written when None.
        force: replace an output that is there.

    Raises:
        FoldingError: training mode, half-folded, or an output that moved by more than rounding explains.
        UsageError: the output exists or cannot be written.
        CheckpointError: an output is asked for of a model that `load_model` did not make.
    """
    place = optional_path(output)
    beside = None if place is None else check_folded_output(place, force)
    pixels = ids = None
    if not is_folded(model):
        inputs = sample_inputs(model)
        pixels, ids = normalize(torch.from_numpy(inputs.pixels), model.variant.preprocess), torch.from_numpy(inputs.ids)
    report = fold(model, pixels, ids)
    if place is not None and beside is not None:
        with sole_writer(place, "reparameterize", force=force, beside=beside):
            folded.save(model, place)
            write_whole(beside, json.dumps(report.as_dict(), indent=2) + "\n")
    return report
