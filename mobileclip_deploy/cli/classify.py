"""`classify`: zero-shot classification of image files with a bundle."""

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
@click.option(
    "--labels-file",
    type=FILE,
    metavar="FILE",
    help="Labels that were learned from pictures (labels.safetensors), for a bundle of embeddings.",
)
@click.option("--softmax", is_flag=True, help="Learned labels: print the most probable ones, even if none is present.")
@click.option("--skip-bad", is_flag=True, help="Leave out unusable images, and report their count.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: image, label, probability from 0 to 1.")
@json_option
def classify(
    bundle: Path,
    images: tuple[Path, ...],
    labels: str | None,
    template: str | None,
    top: int | None,
    labels_file: Path | None,
    softmax: bool,
    skip_bad: bool,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Classify images with a bundle: print each image's most probable labels.

    Labels that were learned from pictures (`export --examples`) are printed if they are present: one, several, or "none
    of these". IMAGES are files, folders (with all subfolders) and patterns. They are read in batches.

    \b
    Examples:
      mobileclip-deploy classify out/nano-onnx-fp16 cat.png --labels cat,dog,car --template "{}"
      mobileclip-deploy classify out/nano-onnx-fp16 photos/ --labels labels.txt --top 1 --skip-bad --csv
      mobileclip-deploy classify out/nano-onnx-fp16 photos/ --labels-file labels.safetensors
    """
    from mobileclip_deploy.artifacts.heads.labels import given_labels
    from mobileclip_deploy.errors import UsageError

    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    if labels is not None:
        given_labels(labels, template)

    from mobileclip_deploy.artifacts.heads.label_head import NONE, LabelHead
    from mobileclip_deploy.cli.output import named_once, note, print_csv, print_json, print_table, progress
    from mobileclip_deploy.cli.tables import note_skipped
    from mobileclip_deploy.evaluation.classification import classify as run

    head = None if labels_file is None else LabelHead.read(labels_file)
    with progress() as update:
        results = run(
            bundle, named_once(images), labels, template, labels_file=head, skip_bad=skip_bad, progress=update
        )
    if softmax and any(result.tags is None for result in results):
        raise UsageError("--softmax is for labels that were learned from pictures; leave it out")
    most = top if top is not None or as_json else SHOWN
    note_skipped(results.skipped, "image", len(results.skipped))
    for text in results.notes:
        note(f"Warning: {text}")
    rows = [
        (str(result.image), label, f"{result.probabilities[label]:.6g}")
        for result in results
        for label in list(result.probabilities if softmax or result.tags is None else result.tags or (NONE,))[:most]
    ]
    if as_json:
        records = [
            {
                "image": str(result.image),
                "probabilities": dict(list(result.probabilities.items())[:most]),
                **({} if result.tags is None else {"tags": list(result.tags)}),
            }
            for result in results
        ]
        print_json([*records, *({"image": None, "probabilities": {}, "skipped": text} for text in results.skipped)])
    elif as_csv:
        print_csv(("image", "label", "probability"), rows)
    else:
        before = ["", *(row[0] for row in rows)]
        table = [
            [
                image if image != last else "",
                label,
                "" if label == NONE and not softmax else f"{100 * float(probability):.1f}",
            ]
            for (image, label, probability), last in zip(rows, before, strict=False)
        ]
        print_table(None, ["image", "label", ">%"], table)
