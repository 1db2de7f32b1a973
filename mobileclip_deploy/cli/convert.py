"""`convert`: a checkpoint in another layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, json_option, preprocess_option
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.network.checkpoints.cutting import Keep


@click.command()
@click.argument("checkpoint", type=FILE)
@click.option(
    "--layout",
    required=True,
    metavar="NAME",
    shell_complete=completion.layouts,
    help="Layout to write: apple, open_clip, transformers or folded.",
)
@click.option(
    "--variant",
    metavar="NAME",
    shell_complete=completion.variants,
    help="Network architecture, as listed by `variants`. [default: detected from the checkpoint]",
)
@preprocess_option
@click.option(
    "--languages", metavar="CODES", help="Reduce a SentencePiece vocabulary to these languages, such as de,en,fr."
)
@click.option(
    "--language-texts",
    type=FILE,
    metavar="FOLDER",
    help="With --languages: texts of each language as CODE.txt, one per line, or npm's folder cldr-annotations-full.",
)
@click.option(
    "--keep",
    type=click.Choice(["letters", "used"]),
    default="letters",
    show_default=True,
    help="With --languages: keep all pieces in the letters of those texts, or only the pieces that they use.",
)
@click.option(
    "--captions",
    type=FILE,
    metavar="FILE",
    help="With --languages: texts of your own, to report which of their pieces are lost.",
)
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help="File to write, .safetensors or .pt.")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@json_option
def convert(
    checkpoint: Path,
    layout: str,
    variant: str | None,
    preprocess: str | None,
    languages: str | None,
    language_texts: Path | None,
    keep: Keep,
    captions: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write a checkpoint in another layout, so that it can go back to open_clip or to Apple's code.

    \b
    Examples:
      mobileclip-deploy convert mobileclip_s1.pt --layout open_clip -o mobileclip_s1_openclip.safetensors
      mobileclip-deploy convert siglip2.safetensors --layout open_clip --languages de,en --language-texts texts/
        -o siglip2_de_en.safetensors
    """
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file

    weights_file(variant, checkpoint)

    from mobileclip_deploy.cli.output import MOMENT, note, print_json, progress
    from mobileclip_deploy.network.checkpoints.convert import convert as write
    from mobileclip_deploy.network.checkpoints.cutting import languages_of_options

    codes = None if languages is None else [code.strip() for code in languages.split(",") if code.strip()]
    cut = languages_of_options(codes, language_texts, keep, captions)
    with progress(MOMENT) as update:
        result = write(
            checkpoint, layout, output, variant, preprocess=preprocess, languages=cut, force=force, progress=update
        )
    for text in result.notes:
        note(f"Note: {text}")
    if as_json:
        print_json(result)
        return
    layouts = f"{result.source_layout} -> {result.layout}"
    say(f"wrote {result.output}: {result.variant}, {layouts}, {result.tensors} tensors")
