"""`classify`: zero-shot classification of image files with a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from mobileclip_deploy.cli.options import BundlePath, json_option

__all__ = ["classify"]


@click.command()
@click.argument("bundle", type=BundlePath())
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--labels", metavar="FILE|A,B,C", help="What the image may show: a list, or a file with one a line.")
@click.option("--template", metavar="TEXT", help='Prompt for a label, "a photo of a {}" [default: the model\'s own].')
@json_option
def classify(bundle: Path, images: tuple[Path, ...], labels: str | None, template: str | None, as_json: bool) -> None:
    """Say which of the labels each image shows, by the artifacts of a bundle.

    \b
    Example:
      mobileclip-deploy classify out/nano-onnx-fp16 cat.png --labels cat,dog,car --template "{}"
      mobileclip-deploy classify out/nano-onnx-fp16 cat.png --labels labels.txt
    """
    from mobileclip_deploy.cli.output import print_json, print_table
    from mobileclip_deploy.evaluation.classification import classify as run
    from mobileclip_deploy.towers.labels import read_labels

    results = run(bundle, images, None if labels is None else read_labels(labels).names, template)
    if as_json:
        print_json([{"image": str(result.image), "probabilities": result.probabilities} for result in results])
        return
    rows = [
        [str(result.image) if not place else "", label, f"{100 * probability:.1f}"]
        for result in results
        for place, (label, probability) in enumerate(list(result.probabilities.items())[:5])
    ]
    print_table(None, ["image", "label", ">%"], rows)
