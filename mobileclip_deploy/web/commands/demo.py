"""`demo`: a page that runs a bundle in the browser."""

from pathlib import Path

import click

from mobileclip_deploy.cli.options import FILE, BundlePath, json_option
from mobileclip_deploy.cli.terminal import say


@click.command()
@click.argument("bundle", type=BundlePath(), required=False, metavar="[BUNDLE]")
@click.option("--images", type=FILE, metavar="DIR", help="Folder of pictures to search.")
@click.option("--static", type=FILE, metavar="DIR", help="Write the page to this folder, for hosting.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Port to serve on. [default: any free one]"
)
@click.option("--open", "opened", is_flag=True, help="Open the page in this machine's browser.")
@click.option("--force", is_flag=True, help="Replace an existing page.")
@json_option
def demo(
    bundle: Path | None, images: Path | None, static: Path | None, port: int, opened: bool, force: bool, as_json: bool
) -> None:
    """Show an ONNX bundle in the browser: classify a picture, and search your own pictures by words.

    Without one, the built-in network is exported and shown, with 460 emoji to search.

    The page runs the model itself. No picture leaves the machine, and answers are checked against the bundle's golden
    ones when the page is loaded.

    \b
    Example:
      mobileclip-deploy demo --open
      mobileclip-deploy demo out/nano-onnx-fp32 --images ~/Pictures --open
      mobileclip-deploy demo out/nano-onnx-fp32 --static site/
    """
    from mobileclip_deploy.base.files.staging import temporary_folder
    from mobileclip_deploy.cli.output import note, print_json, progress
    from mobileclip_deploy.web.demo import demo as serve
    from mobileclip_deploy.web.demo import write_demo, write_opening

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address, "folder": None})
        else:
            say(address)
        note("Open this address in a browser of this machine; Ctrl-C ends the page.")
        if opened:
            click.launch(str(write_opening(address, folder)))

    if bundle is None:
        note("Using the built-in checkpoint nano; name a bundle to show your own.")
    with progress() as update, temporary_folder() as folder:
        if static is None:
            serve(bundle, images=images, port=port, ready=ready, progress=update)
            return
        written = write_demo(bundle, static, images=images, force=force, progress=update)
    if as_json:
        print_json({"address": None, "folder": str(written)})
    else:
        say(f"wrote {written}")
