"""`embed`: a bundle's embeddings of images or texts, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mobileclip_deploy.cli.options import FILE, BundlePath, json_option
from mobileclip_deploy.cli.terminal import say

__all__ = ["embed"]


@click.command()
@click.argument("bundle", type=BundlePath())
@click.argument("sources", type=FILE, nargs=-1, required=True, metavar="IMAGES...|TEXTS")
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE")
@click.option("--normalise", is_flag=True, help="Scale embeddings to length 1, so that products are cosines.")
@click.option(
    "--skip-bad/--no-skip-bad",
    default=True,
    show_default=True,
    help="Leave out images that cannot be used, and name them; else the first ends the command.",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads [default: a core each].")
@click.option(
    "--fast-jpeg", is_flag=True, help="Decode large JPEGs at a part of their size; moves embeddings a little."
)
@click.option("--force", is_flag=True, help="Replace FILE.")
@json_option
def embed(bundle: Path, sources: tuple[Path, ...], output: Path, as_json: bool, **asked: Any) -> None:
    """Write a bundle's embeddings of images, or of the texts in a file.

    IMAGES are files, folders and patterns; TEXTS is a .txt with one a line, or a .jsonl. FILE is .safetensors or
    .jsonl, and says which embedding space it is of; or .npy, beside which a .json says it. All cores are used. An
    interrupted command goes on where it was when it is given again.

    \b
    Examples:
      mobileclip-deploy embed out/nano-onnx-fp16 photos/ -o photos.safetensors --normalise
      mobileclip-deploy embed out/nano-onnx-fp16 labels.txt -o labels.jsonl
      mobileclip-deploy embed out/nano-onnx-fp16 'photos/**/*.jpg' -o photos.npy --fast-jpeg
    """
    from mobileclip_deploy import embed as run
    from mobileclip_deploy.cli.output import note, print_json, progress, quiet
    from mobileclip_deploy.cli.tables import note_skipped

    with progress() as update:
        written = run(bundle, sources, output, progress=update, **asked)
    note_skipped(written.skipped, "image", len(written.skipped))
    if written.per_second is not None and not quiet():
        kept = "" if written.computed == written.count else f", of {written.count:,}"
        note(f"{written.computed:,} images{kept} in {written.seconds:.1f} s: {written.per_second:.3g} a second.")
    if as_json:
        print_json(written)
        return
    beside = "" if written.description is None else f", described in {written.description}"
    kind = "normalised" if written.normalised else "not normalised"
    say(
        f"wrote {written.count} {written.tower} embeddings of dimension {written.dimension} ({kind}, "
        f"{written.embedding_space}) to {written.path}{beside}"
    )
