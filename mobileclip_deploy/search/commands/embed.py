"""`embed`: a bundle's embeddings of images or texts, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, get_args

import click

from mobileclip_deploy.base.arguments import StoreName
from mobileclip_deploy.cli.options import FILE, BundlePath, json_option
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.search.library import IndexFile


class EmbedChoices(TypedDict):
    """Options that are keywords of `embed`."""

    normalise: bool
    skip_bad: bool
    workers: int | None
    fast_jpeg: bool
    store: StoreName | None
    incremental: bool
    prune: bool
    force: bool


@click.command()
@click.argument("bundle", type=BundlePath())
@click.argument("sources", type=FILE, nargs=-1, required=True, metavar="IMAGES...|TEXTS")
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    metavar="FILE",
    help="File to write: .safetensors, .jsonl, .npy, or .mcdx for an index.",
)
@click.option("--normalise", is_flag=True, help="Scale embeddings to length 1, so that products are cosines.")
@click.option(
    "--skip-bad/--no-skip-bad",
    default=True,
    show_default=True,
    help="Leave out images that cannot be used, and name them; else the first ends the command.",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Number of threads. [default: one per core]")
@click.option(
    "--fast-jpeg", is_flag=True, help="Decode large JPEGs at reduced size: faster, and changes embeddings slightly."
)
@click.option(
    "--store",
    type=click.Choice(get_args(StoreName)),
    help="With .mcdx: how the index stores an embedding; bits also stores int8, to re-rank the best matches. "
    "[default: int8]",
)
@click.option(
    "--incremental",
    is_flag=True,
    help="With .mcdx: embed new and changed pictures only, and keep the rest of the index.",
)
@click.option("--prune", is_flag=True, help="With --incremental: remove pictures whose files no longer exist.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def embed(
    bundle: Path, sources: tuple[Path, ...], output: Path, as_json: bool, **choices: Unpack[EmbedChoices]
) -> None:
    """Write a bundle's embeddings of images, or of the texts in a file.

    IMAGES are files, folders and patterns; TEXTS is a .txt with one text per line, or a .jsonl. FILE is .safetensors or
    .jsonl, which record the embedding space; or .npy, with a .json next to it; or .mcdx, an index for `search`. All
    cores are used. An interrupted command resumes when it is given again.

    \b
    Examples:
      mobileclip-deploy embed out/nano-onnx-fp16 photos/ -o library.mcdx
      mobileclip-deploy embed out/nano-onnx-fp16 photos/ -o library.mcdx --incremental --prune
      mobileclip-deploy embed out/nano-onnx-fp16 photos/ -o photos.safetensors --normalise
      mobileclip-deploy embed out/nano-onnx-fp16 labels.txt -o labels.jsonl
      mobileclip-deploy embed out/nano-onnx-fp16 'photos/**/*.jpg' -o photos.npy --fast-jpeg
    """
    from mobileclip_deploy.search.requested import check_embedding_output

    check_embedding_output(output, choices["store"], choices["incremental"], choices["prune"], choices["force"])

    from mobileclip_deploy import embed as run
    from mobileclip_deploy.base.progress import rate
    from mobileclip_deploy.cli.output import named_once, note, print_json, progress, quiet
    from mobileclip_deploy.cli.tables import note_skipped
    from mobileclip_deploy.search.library import IndexFile

    with progress() as update:
        written = run(bundle, named_once(sources), output, progress=update, **choices)
    note_skipped(written.skipped, "image", len(written.skipped))
    if written.per_second is not None and not quiet():
        kept = "" if isinstance(written, IndexFile) or written.computed == written.count else f", of {written.count:,}"
        told = f"{written.computed:,} different images{kept}"
        note(f"{told} in {written.seconds:.1f} s: {rate(written.per_second)} a second.")
    if as_json:
        print_json(written)
        return
    if isinstance(written, IndexFile):
        _say_index(written)
        return
    beside = "" if written.description is None else f", described in {written.description}"
    kind = "normalised" if written.normalised else "not normalised"
    say(
        f"wrote {written.count} {written.tower} embeddings of dimension {written.dimension} ({kind}, "
        f"{written.embedding_space}) to {written.path}{beside}"
    )


def _say_index(written: IndexFile) -> None:
    from mobileclip_deploy.cli.output import note, sized

    changes = {"added": written.added, "replaced": written.replaced, "removed": written.removed}
    told = ", ".join(f"{count:,} {word}" for word, count in changes.items() if count) or "nothing new"
    say(
        f"{written.path}: {told}; it holds {written.count:,} {written.tower} embeddings of dimension "
        f"{written.dimension} as {written.store} ({written.embedding_space}), {sized(written.bytes)}"
    )
    if written.missing:
        note(f"pictures without a file any more: {written.missing:,}; --prune removes them")
    if written.clipped > 0.001:
        note(f"{100 * written.clipped:.2g}% of the components are beyond the int8 scale; --store float16 keeps them")
