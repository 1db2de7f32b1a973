"""`evaluate`: task accuracy of a bundle or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli.options import BundlePath, dataset_options, json_option

if TYPE_CHECKING:
    from mobileclip_deploy.cli.options import DatasetChoice
    from mobileclip_deploy.model.architecture import MobileCLIP

__all__ = ["evaluate"]


@click.command()
@click.argument("subject", type=BundlePath(others=True), required=False, metavar="[BUNDLE|CHECKPOINT]")
@dataset_options
@click.option("--task", type=click.Choice(["classification", "retrieval"]), help="[default: all the dataset allows]")
@json_option
def evaluate(subject: Path | None, data: DatasetChoice, task: str | None, as_json: bool) -> None:
    """Measure zero-shot classification and retrieval.

    A dataset is a folder of class folders (as ImageNet's validation set), a folder with a dataset.json, a table of
    images with labels or texts (.csv, .tsv, .jsonl), Flickr30k's or COCO's Karpathy JSON, or a folder of shards as
    CLIP_benchmark writes them: see docs/datasets.md.

    \b
    Examples:
      mobileclip-deploy evaluate                          # the built-in checkpoint on its held-out set
      mobileclip-deploy evaluate out/nano-onnx-fp16
      mobileclip-deploy evaluate out/mobileclip_s0-onnx-fp16 --dataset imagenet/val --class-names LOC_synset_mapping.txt
      mobileclip-deploy evaluate out/mobileclip_s0-onnx-fp16 --dataset dataset_flickr30k.json --images flickr30k-images
    """
    from mobileclip_deploy import evaluate as run
    from mobileclip_deploy import load_model
    from mobileclip_deploy.checkpoints.source import Source
    from mobileclip_deploy.cli.output import note_provenance, print_json, progress
    from mobileclip_deploy.cli.tables import note_skipped, print_evaluation

    if subject is not None and subject.is_dir():
        model: Path | MobileCLIP = subject
    else:
        model = load_model(None, subject)
        note_provenance(Source.of(model).provenance)
    with progress() as update:
        result = run(model, task=task, progress=update, **data.arguments())
    note_skipped(result.skipped)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_evaluation(result)
