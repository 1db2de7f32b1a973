"""`evaluate`: task accuracy of a bundle or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli.options import json_option

if TYPE_CHECKING:
    from mobileclip_deploy.architecture import MobileCLIP

__all__ = ["evaluate"]


@click.command()
@click.argument("subject", type=click.Path(path_type=Path), required=False, metavar="[BUNDLE|CHECKPOINT]")
@click.option("--dataset", type=click.Path(path_type=Path), metavar="DIR", help="[default: the built-in held-out set]")
@click.option("--task", type=click.Choice(["classification", "retrieval"]), help="[default: all the dataset allows]")
@json_option
def evaluate(subject: Path | None, dataset: Path | None, task: str | None, as_json: bool) -> None:
    """Measure zero-shot classification and retrieval.

    DIR holds class folders of images (as ImageNet's validation set), or a dataset.json (see docs/datasets.md).

    \b
    Examples:
      mobileclip-deploy evaluate                          # the built-in checkpoint on its held-out set
      mobileclip-deploy evaluate out/nano-onnx-fp16
      mobileclip-deploy evaluate out/mobileclip_s0-onnx-fp16 --dataset imagenet/val --task classification
    """
    from mobileclip_deploy.api import evaluate as run
    from mobileclip_deploy.api import load_model
    from mobileclip_deploy.cli.output import note_model, print_json, print_table, progress

    if subject is not None and subject.is_dir():
        model: Path | MobileCLIP = subject
    else:
        model = load_model(None, subject)
        note_model(model)
    with progress() as update:
        result = run(model, dataset=dataset, task=task, progress=update)
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    rows = [
        [name.replace("_", " "), f"{interval.value:.2f}", f"{interval.low:.1f} .. {interval.high:.1f}"]
        for name, interval in result.figures.items()
    ]
    rows += [[f"{name.replace('_', ' ')} mean rank", f"{rank:.1f}", ""] for name, rank in result.mean_ranks.items()]
    classes = f", {result.classes} classes" if result.classes else ""
    title = f"{result.model} on {result.dataset} ({result.images} images{classes}; {result.engine})"
    print_table(title, ["figure", ">%", ">95% interval"], rows)
