"""`bridge`: an index reduced to the smaller embeddings of a bundle."""

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, json_option
from mobileclip_deploy.cli.terminal import say


@click.command()
@click.option("--from", "source", type=FILE, required=True, metavar="OLD", help="Index of full embeddings.")
@click.option("--by", type=FILE, required=True, metavar="BUNDLE", help="Bundle with smaller embeddings.")
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="Index to write (.mcdx).")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def bridge(source: Path, by: Path, output: Path, force: bool, as_json: bool) -> None:
    """Reduce an index to the smaller embeddings of a bundle (`export --embedding-size`), without its pictures.

    \b
    Example:
      mobileclip-deploy bridge --from full.mcdx --by out/nano-e64-onnx-w8 -o small.mcdx
    """
    from mobileclip_deploy.search.index import Index

    opened = Index(source)

    # From here on torch is needed, which takes more than a second to import: what was refused before did not wait.
    from mobileclip_deploy import bridge as run
    from mobileclip_deploy.cli.output import print_json

    written = run(opened, by=by, output=output, force=force)
    if as_json:
        print_json(written)
        return
    spaces = f"{written.bridge.from_space} to {written.bridge.to_space}"
    say(f"wrote {written.path}: {written.count:,} embeddings converted from {spaces}")
