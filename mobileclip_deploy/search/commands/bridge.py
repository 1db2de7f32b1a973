"""`bridge`: a library that changes its model without its pictures."""

from __future__ import annotations

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, json_option
from mobileclip_deploy.cli.terminal import say


@click.command()
@click.option("--from", "source", type=FILE, required=True, metavar="OLD", help="Index of the old model.")
@click.option(
    "--to",
    type=FILE,
    metavar="NEW",
    help="Learn a bridge to this index of the new model, which has some of the same pictures.",
)
@click.option(
    "--by",
    type=FILE,
    metavar="MAP",
    help="Convert the old index by this learned bridge, or by a bundle with smaller embeddings.",
)
@click.option(
    "-o",
    "--output",
    type=FILE,
    required=True,
    metavar="FILE",
    help="File to write: the bridge (.safetensors) with --to, the index (.mcdx) with --by.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def bridge(source: Path, to: Path | None, by: Path | None, output: Path, force: bool, as_json: bool) -> None:
    """Convert an index to another model's embedding space, by a bridge learned from pictures that both models embedded.

    With --to the bridge is learned and written: FILE is a .safetensors. It is tested on a fifth of the shared pictures,
    and refused (exit code 1) if it keeps fewer than half of the first ten matches that newly embedded pictures would
    have. With --by the index is converted: FILE is an .mcdx.

    \b
    Examples:
      mobileclip-deploy bridge --from old.mcdx --to new.mcdx -o map.safetensors
      mobileclip-deploy bridge --from old.mcdx --by map.safetensors -o library.mcdx
      mobileclip-deploy bridge --from full.mcdx --by out/nano-e64-onnx-w8 -o small.mcdx
    """
    from mobileclip_deploy.search.index import Index

    opened = Index(source)

    # From here on torch is needed, which takes more than a second to import: what was refused before did not wait.
    from mobileclip_deploy import bridge as run
    from mobileclip_deploy.cli.output import print_json
    from mobileclip_deploy.cli.tables import percent

    found = run(opened, to=to, by=by, output=output, force=force)
    if as_json:
        print_json(found)
        return
    told, figures = found.bridge, found.bridge.figures
    if found.count is not None or figures is None:
        say(f"wrote {found.path}: {found.count or 0:,} embeddings converted from {told.from_space} to {told.to_space}")
        return
    say(
        f"wrote {found.path}: {told.from_space} to {told.to_space}, {figures.kind}, learned from {figures.pairs:,} "
        f"pictures. Of the first ten matches {percent(figures.shared)}% are those of newly embedded pictures, and "
        f"{percent(figures.own_first)}% of {figures.held_back:,} pictures are nearest to themselves."
    )
