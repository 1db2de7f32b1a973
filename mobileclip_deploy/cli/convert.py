"""`convert`: a checkpoint in another layout."""

from __future__ import annotations

from pathlib import Path

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, json_option, preprocess_option
from mobileclip_deploy.cli.terminal import say

__all__ = ["convert"]


@click.command()
@click.argument("checkpoint", type=FILE)
@click.option(
    "--layout", required=True, metavar="NAME", shell_complete=completion.layouts, help="apple, open_clip or folded."
)
@click.option(
    "--variant", metavar="NAME", shell_complete=completion.variants, help="Told from the checkpoint when left out."
)
@preprocess_option
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help=".safetensors or .pt")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@json_option
def convert(
    checkpoint: Path,
    layout: str,
    variant: str | None,
    preprocess: str | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write a checkpoint in another layout, so that it can go back to open_clip or to Apple's code.

    \b
    Example:
      mobileclip-deploy convert mobileclip_s1.pt --layout open_clip -o mobileclip_s1_openclip.safetensors
    """
    from mobileclip_deploy.checkpoints.weights_files import weights_file

    weights_file(variant, checkpoint)

    from mobileclip_deploy.checkpoints.convert import convert as write
    from mobileclip_deploy.cli.output import MOMENT, note, print_json, progress

    with progress(MOMENT) as update:
        result = write(checkpoint, layout, output, variant, preprocess=preprocess, force=force, progress=update)
    for text in result.notes:
        note(f"Note: {text}")
    if as_json:
        print_json(result)
        return
    layouts = f"{result.source_layout} -> {result.layout}"
    say(f"wrote {result.output}: {result.variant}, {layouts}, {result.tensors} tensors")
