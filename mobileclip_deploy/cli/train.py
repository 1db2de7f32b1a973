"""`train`: a small model on a reinforced dataset."""

from __future__ import annotations

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, json_option
from mobileclip_deploy.cli.terminal import say

__all__ = ["train"]


@click.command()
@click.argument("recipe", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR")
@click.option("--data", type=FILE, metavar="DIR", help="Instead of the recipe's data.")
@click.option(
    "--images",
    type=FILE,
    metavar="DIR",
    help="Of DataCompDR's shards: the folder of DataComp's, which have the images and captions.",
)
@json_option
def train(recipe: Path, output: Path, data: Path | None, images: Path | None, as_json: bool) -> None:
    """Train as RECIPE (YAML) says, or go on where the same command was stopped.

    DIR gets checkpoint.pt and log.csv (loss and held-out recall) on the way, and weights.safetensors at the end. Every
    measurement is also printed on stderr, without --quiet. Under torchrun all processes train together.

    \b
    Example:
      mobileclip-deploy train recipe.yaml -o runs/first
      mobileclip-deploy train recipe.yaml --data DataCompDR-12M --images DataComp-12M -o runs/dr
      torchrun --nproc-per-node 8 -m mobileclip_deploy train recipe.yaml -o runs/eight
    """
    from contextlib import nullcontext

    from mobileclip_deploy.learning.training.leading import OtherFailed, leads
    from mobileclip_deploy.learning.training.recipe import read_recipe

    if leads():
        read_recipe(recipe, data, images)

    # From here on torch is needed, which takes more than a second to import: what was refused before did not wait.
    from mobileclip_deploy import train as run
    from mobileclip_deploy.cli.output import note, print_json, print_table, progress, quiet
    from mobileclip_deploy.learning.training.saving import LogRow
    from mobileclip_deploy.progress import silent

    def show(row: LogRow) -> None:
        if quiet():
            return
        recalls = f"{row.image_to_text_recall:.2f}% image to text, {row.text_to_image_recall:.2f}% text to image"
        note(f"step {row.step}, loss {row.loss:.3f}, held-out recall@1 {recalls}")

    try:
        with progress() if leads() else nullcontext(silent) as update:
            result = run(recipe, output, data=data, images=images, progress=update, measured=show)
    except OtherFailed as error:
        raise SystemExit(error.exit_code) from error  # the process that failed has said why
    if not leads():
        return
    left = result.left_out
    if as_json:
        print_json({"output": result.weights, "resumed_at": result.resumed_at, "log": result.log, "left_out": left})
        return
    lines = []
    for row in result.log:
        recalls = (f"{value:.2f}" for value in (row.image_to_text_recall, row.text_to_image_recall))
        lines.append([str(row.step), f"{row.samples:,}", f"{row.loss:.3f}", *recalls])
    print_table(None, [">step", ">samples", ">loss", ">image to text @1 %", ">text to image @1 %"], lines)
    if left is not None:
        say(
            f"{left.samples:,} samples; left out: {left.without_image:,} without an image, {left.without_text:,} "
            f"without a caption, {len(left.bad):,} damaged; {left.skipped:,} times one was skipped that cannot be used"
        )
        for line in left.bad:
            note(line)
    say(f"wrote {result.weights}" + (f", resumed at step {result.resumed_at}" if result.resumed_at else ""))
