"""`search`: the pictures of an index that a text or a picture finds."""

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, BundlePath, json_option
from mobileclip_deploy.cli.terminal import say


@click.command()
@click.argument("index", type=FILE, metavar="INDEX")
@click.argument("texts", nargs=-1, metavar="[TEXTS]...")
@click.option(
    "--image", "images", type=FILE, multiple=True, metavar="FILE", help="Picture to search with. May be repeated."
)
@click.option(
    "--bundle", type=BundlePath(), help="Bundle that embeds the query. [default: the one that last wrote an index]"
)
@click.option(
    "--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Number of matches per query."
)
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1),
    metavar="COSINE",
    help="Minimum cosine of the best match; below it nothing is found. -1 shows all. [default: the bundle's learned "
    "threshold, for text queries]",
)
@click.option("--html", type=FILE, metavar="FILE", help="Also write a page with small pictures.")
@click.option(
    "--export",
    "output",
    type=FILE,
    metavar="FILE",
    help="Write the index for another engine: .npy, .usearch, .sqlite or .parquet.",
)
@click.option("--force", is_flag=True, help="Replace an existing file of --html or --export.")
@json_option
def search(
    index: Path,
    texts: tuple[str, ...],
    images: tuple[Path, ...],
    bundle: Path | None,
    top: int,
    threshold: float | None,
    html: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Find the pictures of an index that are nearest to a text, or to a picture.

    INDEX is a file that `embed ... -o NAME.mcdx` wrote. Every embedding in it is compared. TEXTS go to the text
    tower unchanged, without a template. If the bundle was exported with --background, a text that fits no picture
    finds nothing.

    \b
    Examples:
      mobileclip-deploy search library.mcdx "a red car" --top 5
      mobileclip-deploy search library.mcdx "a dog" "a cat" --json
      mobileclip-deploy search library.mcdx "a dog" --top 60 --html dogs.html
      mobileclip-deploy search library.mcdx --image cat.jpg --bundle out/nano-onnx-fp16
      mobileclip-deploy search library.mcdx --export library.usearch
    """
    from mobileclip_deploy.search.index import Index

    opened = Index(index)

    from mobileclip_deploy import export_index
    from mobileclip_deploy import search as run
    from mobileclip_deploy.cli.output import note, print_json, print_table
    from mobileclip_deploy.errors import UsageError
    from mobileclip_deploy.search.searching import foreign_letters, nothing_found, reads_only_english

    if output is not None:
        if texts or images or html or as_json:
            raise UsageError("--export goes alone, without texts, images, --html and --json")
        say("wrote " + " and ".join(map(str, export_index(opened, output, force=force))))
        return
    found = run(opened, texts, images=images, bundle=bundle, top=top, threshold=threshold, html=html, force=force)
    if as_json:
        print_json(found)
        return
    if bundle is None:
        note(f"query embedded by {found.bundle}; --bundle names another")
    if found.bridged_from is not None:
        note(f"the index was converted from {found.bridged_from} by a bridge: matches are approximate")
    for answer in found.answers:
        if answer.unknown > 0:
            note(f"{answer.query}: the text tower's vocabulary lacks {answer.unknown:.0%} of it")
        elif answer.kind == "text" and reads_only_english(found.bundle) and foreign_letters(answer.query):
            note(f"{answer.query}: the text tower was trained on English; teach it others by `train --text-tower`")
        if not answer.found:
            say(nothing_found(answer))
            continue
        title = f"{answer.query} ({len(answer.matches)} of {found.count:,})"
        print_table(title, [">cosine", "id"], [[f"{match.score:.3f}", match.id] for match in answer.matches])
