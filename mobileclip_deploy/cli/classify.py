"""`classify`: zero-shot classification of image files with a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, BundlePath, json_option

SHOWN = 5


@click.command()
@click.argument("bundle", type=BundlePath())
@click.argument("images", type=FILE, nargs=-1, required=True, metavar="IMAGES...")
@click.option("--labels", metavar="FILE|A,B,C", help="Possible labels: a list, or a file with one per line.")
@click.option(
    "--template", metavar="TEXT", help='Prompt for a label, such as "a photo of a {}". [default: the bundle\'s]'
)
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="N",
    help="Number of labels to print per image. [default: 5; all with --json]",
)
@click.option("--skip-bad", is_flag=True, help="Leave out unusable images, and report their count.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: image, label, probability from 0 to 1.")
@json_option
def classify(
    bundle: Path,
    images: tuple[Path, ...],
    labels: str | None,
    template: str | None,
    top: int | None,
    skip_bad: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Classify images with a bundle: print each image's most probable labels.

    IMAGES are files, folders (with all subfolders) and patterns. They are read in batches.

    \b
    Examples:
      mobileclip-deploy classify out/nano-onnx-fp16 cat.png --labels cat,dog,car --template "{}"
      mobileclip-deploy classify out/nano-onnx-fp16 photos/ --labels labels.txt --top 1 --skip-bad --csv
    """
    from mobileclip_deploy.artifacts.towers.labels import given_labels
    from mobileclip_deploy.errors import UsageError

    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    if labels is not None:
        given_labels(labels, template)

    from mobileclip_deploy.cli.output import note, print_csv, print_json, print_table, progress
    from mobileclip_deploy.cli.tables import note_skipped
    from mobileclip_deploy.evaluation.classification import classify as run

    shown = top if top is not None or as_json else SHOWN
    with progress() as update:
        results = run(bundle, images, labels, template, top=shown, skip_bad=skip_bad, progress=update)
    note_skipped(results.skipped, "image", len(results.skipped))
    for text in results.notes:
        note(f"Warning: {text}")
    rows = [
        (str(result.image), label, f"{probability:.6g}")
        for result in results
        for label, probability in result.probabilities.items()
    ]
    if as_json:
        records = [{"image": str(result.image), "probabilities": result.probabilities} for result in results]
        print_json([*records, *({"image": None, "probabilities": {}, "skipped": text} for text in results.skipped)])
    elif as_csv:
        print_csv(("image", "label", "probability"), rows)
    else:
        before = ["", *(row[0] for row in rows)]
        table = [
            [image if image != last else "", label, f"{100 * float(probability):.1f}"]
            for (image, label, probability), last in zip(rows, before, strict=False)
        ]
        print_table(None, ["image", "label", ">%"], table)
