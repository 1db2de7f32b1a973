"""`reparameterize` folds a model, and measures how far that moved its embeddings of real inputs."""

import json

import torch

from mobileclip_deploy.base.files import StrPath, optional_path, write_whole
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.network.checkpoints import folded
from mobileclip_deploy.network.checkpoints.weights_files import check_folded_output
from mobileclip_deploy.network.embedding import normalize
from mobileclip_deploy.network.folding import FoldReport, fold, is_folded
from mobileclip_deploy.network.inputs import sample_inputs
from mobileclip_deploy.network.model.architecture import MobileCLIP


def reparameterize(model: MobileCLIP, output: StrPath | None = None, *, force: bool = False) -> FoldReport:
    """Folds every branch and BatchNorm of a model, in place, and measures the change on the sample images and prompts.

    Args:
        model: from `load_model`.
        output: path (.safetensors) of the folded checkpoint, with the report as JSON next to it (`NAME.report.json`);
            nothing is written if None.
        force: replace an existing output.

    Raises:
        FoldingError: training mode, half-folded, or an output that moved by more than rounding explains.
        UsageError: the output exists or cannot be written.
        CheckpointError: an output is requested for a model that `load_model` did not make.
    """
    output_path = optional_path(output)
    report_path = None if output_path is None else check_folded_output(output_path, force)
    pixels = ids = None
    if not is_folded(model):
        inputs = sample_inputs(model)
        pixels, ids = normalize(torch.from_numpy(inputs.pixels), model.variant.preprocess), torch.from_numpy(inputs.ids)
    report = fold(model, pixels, ids)
    if output_path is not None and report_path is not None:
        with sole_writer(output_path, "reparameterize", force=force, beside=report_path):
            folded.save(model, output_path)
            write_whole(report_path, json.dumps(report.as_dict(), indent=2) + "\n")
    return report
