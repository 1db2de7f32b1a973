"""`reinforce`: stores teachers' embeddings next to a dataset."""

from pathlib import Path
from typing import TypedDict, Unpack

import click

from mobileclip_deploy.cli.options import FILE, json_option
from mobileclip_deploy.cli.terminal import say


class ReinforceChoices(TypedDict):
    """Options that are keywords of `reinforce`."""

    augmentations: int
    seed: int
    shard_rows: int
    write: str
    captioner: str | None
    synthetic: int
    scheduler: str | None
    insecure_scheduler: bool
    force: bool


@click.command()
@click.argument("pairs", type=FILE)
@click.option(
    "--teacher",
    "teacher_files",
    multiple=True,
    metavar="FILE",
    help="Checkpoint whose embeddings are stored, or hf:OWNER/NAME. May be repeated. [default: the built-in one]",
)
@click.option(
    "--augmentations", type=click.IntRange(1), default=4, show_default=True, help="Augmented versions of each image."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the augmentations.")
@click.option("--shard-rows", type=click.IntRange(1), default=256, show_default=True, help="Pairs per shard file.")
@click.option(
    "--write",
    type=click.Choice(["safetensors", "datacompdr", "datacompdr-bf16"]),
    default="safetensors",
    show_default=True,
    help="Format of the shards; datacompdr is the one that Apple publishes and trains on.",
)
@click.option(
    "--captioner",
    metavar="MODEL:FILE",
    help="CoCa model of open_clip that writes synthetic captions: coca_ViT-L-14:FILE, or :TAG, or hf-hub:OWNER/NAME.",
)
@click.option(
    "--synthetic",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="With --captioner: synthetic captions per image.",
)
@click.option(
    "--scheduler",
    metavar="local|tls://HOST:PORT",
    help="Build shards in parallel with Dask: local for this machine's cores, or a cluster's address.",
)
@click.option("--insecure-scheduler", is_flag=True, help="Use a cluster without TLS, in a network that you trust.")
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="Folder to write the dataset to.")
@click.option("--force", is_flag=True, help="Restart: delete what the folder stores.")
@json_option
def reinforce(
    pairs: Path, teacher_files: tuple[str, ...], output: Path, as_json: bool, **choices: Unpack[ReinforceChoices]
) -> None:
    """Store the teachers' embeddings of augmented images and captions, for `train`.

    PAIRS is a folder with a dataset.json, a .jsonl manifest, or a folder of images. An interrupted run resumes
    when it is repeated; pictures that have changed since are embedded again.

    \b
    Example:
      mobileclip-deploy reinforce photos/ --teacher mobileclip2_s4.pt --teacher mobileclip2_b.pt -o reinforced/
    """
    from mobileclip_deploy.base.scheduling import require_tls
    from mobileclip_deploy.evaluation.pairs import check_pairs
    from mobileclip_deploy.network.checkpoints.named_weights import weights_file

    require_tls(choices["scheduler"], choices["insecure_scheduler"])
    check_pairs(pairs)
    for file in teacher_files:
        weights_file(None, file)

    from mobileclip_deploy import load_model
    from mobileclip_deploy.cli.output import note, note_provenance, print_json, progress
    from mobileclip_deploy.network.checkpoints.source import Source
    from mobileclip_deploy.network.model.architecture import MobileCLIP
    from mobileclip_deploy.training import door

    with progress() as update:

        def teachers() -> list[MobileCLIP]:
            models = [load_model(None, file, announce=note, progress=update) for file in teacher_files or (None,)]
            for teacher in models:
                note_provenance(Source.of(teacher).provenance)
            return models

        result = door.reinforce(pairs, teachers, output, progress=update, **choices)
    if as_json:
        print_json(
            {"output": str(result.folder), "made": result.made, "kept": result.kept}
            | result.index.model_dump(mode="json", exclude={"shards"})
        )
        return
    captions = "no captions" if not result.captioned else "captions"
    say(
        f"wrote {result.folder}: {result.index.rows} images x {choices['augmentations']} augmentations, {captions}, "
        f"{len(result.index.teachers)} teachers, {result.made} shards made and {result.kept} kept"
    )
