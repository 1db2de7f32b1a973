"""`convert`: a checkpoint in another layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, json_option, preprocess_option
from mobileclip_deploy.cli.terminal import say


@click.command()
@click.argument("checkpoint", type=FILE)
@click.option(
    "--layout",
    required=True,
    metavar="NAME",
    shell_complete=completion.layouts,
    help="apple, open_clip, transformers or folded.",
)
@click.option(
    "--variant", metavar="NAME", shell_complete=completion.variants, help="Told from the checkpoint when left out."
)
@preprocess_option
@click.option("--languages", metavar="CODES", help="Cut a SentencePiece vocabulary to them: de,en,fr.")
@click.option(
    "--language-texts",
    type=FILE,
    metavar="FOLDER",
    help="Texts of each: CODE.txt, one per line, or npm's cldr-annotations-full.",
)
@click.option(
    "--keep",
    type=click.Choice(["letters", "used"]),
    default="letters",
    show_default=True,
    help="Pieces in the letters of those texts, or those alone that they use.",
)
@click.option("--captions", type=FILE, metavar="FILE", help="Your own texts, to tell what they lose.")
@click.option("-o", "--output", type=FILE, required=True, metavar="OUT", help=".safetensors or .pt")
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@json_option
def convert(checkpoint: Path, layout: str, output: Path, languages: str | None, as_json: bool, **asked: Any) -> None:
    """Write a checkpoint in another layout, so that it can go back to open_clip or to Apple's code.

    \b
    Examples:
      mobileclip-deploy convert mobileclip_s1.pt --layout open_clip -o mobileclip_s1_openclip.safetensors
      mobileclip-deploy convert siglip2.safetensors --layout open_clip --languages de,en --language-texts texts/
        -o siglip2_de_en.safetensors
    """
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file

    weights_file(asked["variant"], checkpoint)

    from mobileclip_deploy.cli.output import MOMENT, note, print_json, progress
    from mobileclip_deploy.network.checkpoints.convert import convert as write
    from mobileclip_deploy.network.checkpoints.cutting import asked_languages

    codes = None if languages is None else [code.strip() for code in languages.split(",") if code.strip()]
    cut = asked_languages(codes, *(asked.pop(word) for word in ("language_texts", "keep", "captions")))
    with progress(MOMENT) as update:
        result = write(checkpoint, layout, output, languages=cut, progress=update, **asked)
    for text in result.notes:
        note(f"Note: {text}")
    if as_json:
        print_json(result)
        return
    layouts = f"{result.source_layout} -> {result.layout}"
    say(f"wrote {result.output}: {result.variant}, {layouts}, {result.tensors} tensors")
