"""`convert`: a checkpoint in another layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli import completion
from mobileclip_deploy.cli.options import FILE, json_option, preprocess_option, variant_option
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.base.progress import Progress
    from mobileclip_deploy.network.checkpoints.cutting import Keep
    from mobileclip_deploy.network.checkpoints.mixing import MixCurve


@click.command()
@click.argument("checkpoint", type=FILE)
@click.option(
    "--layout",
    metavar="NAME",
    shell_complete=completion.layouts,
    help="Layout to write: apple, open_clip, transformers or folded. [default with --base and --mix: the checkpoint's]",
)
@variant_option
@preprocess_option
@click.option("--base", type=FILE, metavar="FILE", help="Checkpoint to merge CHECKPOINT into, which is a LoRA adapter.")
@click.option(
    "--mix",
    type=FILE,
    metavar="FILE",
    help="Original from which CHECKPOINT was fine-tuned: write weights between the two (WiSE-FT).",
)
@click.option(
    "--ratio",
    type=float,
    metavar="0..1",
    help="With --mix: share of the fine-tuned weights. [default: 0.5, or chosen with --keep and --dataset]",
)
@click.option(
    "--dataset",
    type=FILE,
    metavar="PATH",
    help="With --mix and --keep: held-out data of the fine-tune, as `evaluate` reads it.",
)
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
    metavar="letters|used|PATH",
    help="With --languages: keep all pieces in the letters of those texts (default), or only the pieces that they use. "
    "With --mix: held-out data on which the mix may lose nothing.",
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
    layout: str | None,
    variant: str | None,
    preprocess: str | None,
    base: Path | None,
    mix: Path | None,
    ratio: float | None,
    dataset: Path | None,
    languages: str | None,
    language_texts: Path | None,
    keep: str | None,
    captions: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write a checkpoint in another layout, merge a LoRA adapter, or mix a fine-tune with its original.

    \b
    Examples:
      mobileclip-deploy convert mobileclip_s1.pt --layout open_clip -o mobileclip_s1_openclip.safetensors
      mobileclip-deploy convert siglip2.safetensors --layout open_clip --languages de,en --language-texts texts/
        -o siglip2_de_en.safetensors
      mobileclip-deploy convert adapter/ --base mobileclip2_s0.pt -o merged.safetensors
      mobileclip-deploy convert tuned.pt --mix original.pt --ratio 0.5 -o mixed.safetensors
      mobileclip-deploy convert tuned.pt --mix original.pt --keep old/ --dataset new/ -o mixed.safetensors
    """
    from mobileclip_deploy.errors import UsageError
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file

    if base is not None and mix is not None:
        raise UsageError("--base and --mix exclude each other; merge first, then mix the written file")
    if mix is None and (ratio is not None or dataset is not None):
        raise UsageError("--ratio and --dataset go with --mix; name the original with it")
    if mix is None and keep not in (None, "letters", "used"):
        raise UsageError(f"--keep {keep} is neither letters nor used; a dataset goes with --mix")
    if mix is not None and ((keep is None) != (dataset is None) or (keep is not None and ratio is not None)):
        raise UsageError("--mix takes --ratio, or both --keep and --dataset, which choose it")
    if layout is None and base is None and mix is None:
        raise UsageError("--layout is missing: apple, open_clip, transformers or folded; or give --base or --mix")
    for file in filter(None, (checkpoint, base, mix)):
        weights_file(variant, file)

    from mobileclip_deploy.cli.output import MOMENT, note, print_json, print_table, progress
    from mobileclip_deploy.network.checkpoints.convert import convert as write
    from mobileclip_deploy.network.checkpoints.cutting import languages_of_options
    from mobileclip_deploy.network.checkpoints.mixing import check_ratio

    curve, ratio = None, check_ratio(0.5 if ratio is None else ratio)
    codes = None if languages is None else [code.strip() for code in languages.split(",") if code.strip()]
    pieces: Keep = "used" if keep == "used" else "letters"
    cut = languages_of_options(codes, language_texts, pieces, captions)
    with progress(MOMENT) as update:
        if mix is not None and keep is not None and dataset is not None:
            curve = _curve((mix, checkpoint), variant, preprocess, (Path(keep), dataset), update)
            ratio = curve.ratio
        result = write(
            checkpoint,
            layout,
            output,
            variant,
            base=base,
            mix=mix,
            ratio=ratio,
            preprocess=preprocess,
            languages=cut,
            force=force,
            progress=update,
        )
    for text in result.notes:
        note(f"Note: {text}")
    if as_json:
        print_json(replace(result, curve=curve))
        return
    if curve is not None:
        lines = [[f"{point.ratio:g}", f"{point.old:.2f}", f"{point.new:.2f}"] for point in curve.points]
        print_table(None, [">ratio", f">{keep} %", f">{dataset} %"], lines)
        of_old, of_new = (
            f"{change.value:+.2f} points ({change.low:+.2f} to {change.high:+.2f})" for change in (curve.old, curve.new)
        )
        say(f"ratio {curve.ratio:g}, confirmed on the other pictures: {of_old} on {keep}, {of_new} on {dataset}")
    layouts = f"{result.source_layout} -> {result.layout}"
    say(f"wrote {result.output}: {result.variant}, {layouts}, {result.tensors} tensors")


def _curve(
    files: tuple[Path, Path], variant: str | None, preprocess: str | None, data: tuple[Path, Path], update: Progress
) -> MixCurve:
    """Measures mixes of the original and the fine-tuned checkpoint on the data of both."""
    from mobileclip_deploy.evaluation.checkpoints import choose_ratio
    from mobileclip_deploy.evaluation.dataset_files import read_dataset
    from mobileclip_deploy.network.checkpoints.door import load_model

    update(f"reading {data[0]} and {data[1]}")
    keep, gain = map(read_dataset, data)
    original, tuned = (load_model(variant, file, preprocess=preprocess) for file in files)
    return choose_ratio(original, tuned, keep, gain, update)
