"""`train`: trains a small model on a reinforced dataset, or a text tower for other languages."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mobileclip_deploy.cli.options import FILE, json_option, preprocess_option
from mobileclip_deploy.cli.terminal import say

if TYPE_CHECKING:
    from mobileclip_deploy.base.progress import Progress
    from mobileclip_deploy.training.language.distilling import DistilledTower
    from mobileclip_deploy.training.trainer.recipe import Recipe
    from mobileclip_deploy.training.trainer.running import Trained


@click.command()
@click.argument("recipe", type=FILE, required=False)
@click.option(
    "-o", "--output", type=FILE, required=True, metavar="DIR", help="Folder to write checkpoints, log and weights to."
)
@click.option("--data", type=FILE, metavar="DIR", help="Dataset to train on, instead of the recipe's.")
@click.option(
    "--images",
    type=FILE,
    metavar="DIR",
    help="With DataCompDR shards: folder of the matching DataComp shards (images and captions).",
)
@click.option("--recipe", "preset", type=click.Choice(["finetune"]), help="Preset to train by, instead of RECIPE.")
@click.option(
    "--held-out",
    type=FILE,
    metavar="PATH",
    help="With --recipe: data to measure on. [default: every third picture of --data]",
)
@preprocess_option
@click.option("--text-tower", is_flag=True, help="Train the text tower for other languages; RECIPE is then optional.")
@click.option(
    "--parallel",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="With --text-tower: parallel sentences, .tsv, .jsonl or .parquet. May be repeated.",
)
@click.option(
    "--languages", metavar="de,fr,...", help="With --text-tower: columns of the languages to learn, besides en."
)
@click.option(
    "--checkpoint",
    type=FILE,
    metavar="FILE",
    help="With --recipe and --text-tower: checkpoint to start or to learn from. [default: built-in nano]",
)
@json_option
def train(
    recipe: Path | None,
    output: Path,
    data: Path | None,
    images: Path | None,
    preset: str | None,
    held_out: Path | None,
    preprocess: str | None,
    text_tower: bool,
    parallel: tuple[Path, ...],
    languages: str | None,
    checkpoint: Path | None,
    as_json: bool,
) -> None:
    """Train by a RECIPE (YAML); the same command resumes an interrupted run.

    DIR gets checkpoint.pt and log.csv (loss and held-out recall) on the way, and weights.safetensors at the end. Every
    measurement is also printed on stderr, without --quiet. Under torchrun all processes train together.

    With --text-tower the text tower learns other languages over parallel sentences; the image tower stays byte for byte
    as it is, and so does every index of its embeddings (docs/languages.md).

    \b
    Example:
      mobileclip-deploy train recipe.yaml -o runs/first
      mobileclip-deploy train --recipe finetune --data photos/ --checkpoint mobileclip_s0.pt -o tuned
      mobileclip-deploy train recipe.yaml --data DataCompDR-12M --images DataComp-12M -o runs/dr
      torchrun --nproc-per-node 8 -m mobileclip_deploy train recipe.yaml -o runs/eight
      mobileclip-deploy train --text-tower --parallel pairs.tsv --languages de,fr --checkpoint mobileclip_s0.pt -o tower
    """
    from mobileclip_deploy.errors import UsageError
    from mobileclip_deploy.training.trainer.ranks import PeerFailed

    if text_tower and (data is not None or images is not None):
        raise UsageError("--data and --images go with images; a text tower needs --parallel")
    if not text_tower and (parallel or languages):
        raise UsageError("--parallel and --languages go with --text-tower")
    if preset is None and (held_out is not None or preprocess is not None):
        raise UsageError("--held-out and --preprocess go with --recipe finetune; a RECIPE has fields for them")
    if preset is None and not text_tower and checkpoint is not None:
        raise UsageError("--checkpoint goes with --recipe or --text-tower; a RECIPE names it with start")
    if preset is not None and (recipe is not None or text_tower or images is not None or data is None):
        raise UsageError("--recipe finetune needs --data, and no RECIPE, --text-tower or --images")
    listed = tuple(part.strip() for part in languages.split(",")) if languages else ()
    try:
        if text_tower:
            _text_tower(recipe, output, parallel, listed, checkpoint, as_json)
        elif preset is not None and data is not None:
            _network(_finetune(data, checkpoint, held_out, preprocess), output, None, None, as_json)
        elif recipe is None:
            raise UsageError(
                "a training needs RECIPE, --recipe finetune, or --text-tower with --parallel and --languages"
            )
        else:
            _network(recipe, output, data, images, as_json)
    except PeerFailed as error:
        raise SystemExit(error.exit_code) from error  # the process that failed has printed why


def _finetune(data: Path, checkpoint: Path | None, held_out: Path | None, preprocess: str | None) -> Recipe:
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file
    from mobileclip_deploy.network.checkpoints.weights_files import builtin_checkpoint

    start = builtin_checkpoint() if checkpoint is None else checkpoint
    weights_file(None, start)  # refused before torch is imported

    from mobileclip_deploy.training.door import finetune_recipe

    return finetune_recipe(data, start, held_out=held_out, preprocess=preprocess)


def _network(recipe: Path | Recipe, output: Path, data: Path | None, images: Path | None, as_json: bool) -> None:
    from mobileclip_deploy.training.trainer.ranks import is_rank_zero
    from mobileclip_deploy.training.trainer.recipe import read_recipe

    if isinstance(recipe, Path) and is_rank_zero():
        read_recipe(recipe, data, images)

    # Code from here on imports torch, which takes more than a second: earlier refusals did not wait for it.
    from mobileclip_deploy import train as run
    from mobileclip_deploy.cli.output import note, print_table, quiet
    from mobileclip_deploy.training.trainer.running import LogRow

    def show(row: LogRow) -> None:
        if quiet():
            return
        recalls = f"{row.image_to_text_recall:.2f}% image to text, {row.text_to_image_recall:.2f}% text to image"
        note(f"step {row.step}, loss {row.loss:.3f}, held-out recall@1 {recalls}")

    with _progress() as update:
        result = run(recipe, output, data=data, images=images, progress=update, measured=show, announce=note)
    if not is_rank_zero():
        return
    left = result.left_out
    if as_json:
        _print_result(result)
        return
    lines = []
    for row in result.log:
        recalls = (f"{value:.2f}" for value in (row.image_to_text_recall, row.text_to_image_recall))
        lines.append([str(row.step), f"{row.samples:,}", f"{row.loss:.3f}", *recalls])
    print_table(None, [">step", ">samples", ">loss", ">image to text @1 %", ">text to image @1 %"], lines)
    if left is not None:
        say(
            f"{left.samples:,} samples; left out: {left.without_image:,} without an image, {left.without_text:,} "
            f"without a caption, {len(left.bad):,} damaged; {left.skipped:,} unusable samples skipped"
        )
        for line in left.bad:
            note(line)
    _say_written(result.weights, result.resumed_at)


def _text_tower(
    recipe: Path | None,
    output: Path,
    parallel: tuple[Path, ...],
    languages: tuple[str, ...],
    checkpoint: Path | None,
    as_json: bool,
) -> None:
    from mobileclip_deploy.training.language.recipe import read_tower_recipe
    from mobileclip_deploy.training.trainer.ranks import is_rank_zero

    if is_rank_zero():
        read_tower_recipe(recipe, parallel, languages, checkpoint)

    from mobileclip_deploy import train_text_tower
    from mobileclip_deploy.cli.output import note, print_table, quiet
    from mobileclip_deploy.training.language.distilling import TowerRow

    def show(row: TowerRow) -> None:
        if not quiet():
            recalls = ", ".join(f"{language} {result.recall:.1f}%" for language, result in row.found.items())
            note(f"step {row.step}, loss {row.loss:.3f}, held-out recall@1: {recalls}")

    with _progress() as update:
        result = train_text_tower(
            recipe,
            output,
            parallel=parallel,
            languages=languages,
            checkpoint=checkpoint,
            progress=update,
            measured=show,
            announce=note,
        )
    if not is_rank_zero():
        return
    if as_json:
        _print_result(result)
        return
    last = result.log[-1].found
    lines = [
        [
            language,
            f"{result.pairs.get(language, 0):,}",
            f"{figures.texts:,}",
            f"{figures.recall:.1f}",
            f"{100 * figures.before:.1f}",
        ]
        for language, figures in last.items()
    ]
    print_table(None, ["language", ">pairs", ">held-out texts", ">recall@1 %", ">nearer than the right one %"], lines)
    for reason, count in result.left_out.items():
        say(f"left out: {count:,} {reason}")
    say(f"a vocabulary of {result.vocabulary:,} tokens")
    _say_written(result.weights, result.resumed_at)


def _progress() -> AbstractContextManager[Progress]:
    """Returns the progress printer of the first process, and a silent one in the others."""
    from mobileclip_deploy.base.progress import silent
    from mobileclip_deploy.cli.output import progress
    from mobileclip_deploy.training.trainer.ranks import is_rank_zero

    return progress() if is_rank_zero() else nullcontext(silent)


def _print_result(result: Trained | DistilledTower) -> None:
    from mobileclip_deploy.cli.output import print_json

    fields = {name: value for name, value in vars(result).items() if name not in ("folder", "weights")}
    print_json({"output": result.weights} | fields)


def _say_written(weights: Path, resumed_at: int) -> None:
    say(f"wrote {weights}" + (f", resumed at step {resumed_at}" if resumed_at else ""))
