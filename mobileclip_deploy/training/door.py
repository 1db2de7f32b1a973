"""Public functions of this room. `reinforce` makes reinforced datasets, and `train` trains students on them.
`train_text_tower` distils text towers for other languages."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeVar

from mobileclip_deploy.base.arguments import Count, Seed
from mobileclip_deploy.base.files import StrPath, optional_path
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.base.scheduling import require_scheduler, require_tls
from mobileclip_deploy.errors import MobileClipDeployError, UsageError, suggestion
from mobileclip_deploy.evaluation.pairs import read_pairs
from mobileclip_deploy.network.checkpoints.identity import identify
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.checkpoints.tensor_files import open_tensors
from mobileclip_deploy.network.checkpoints.weights_files import checkpoint_file
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.training.datacompdr.writing import BFLOAT16, FLOAT32
from mobileclip_deploy.training.language.distilling import DistilledTower, TowerRow, distil
from mobileclip_deploy.training.language.recipe import read_tower_recipe
from mobileclip_deploy.training.reinforcement.building import SAFETENSORS, Reinforced, ReinforcementSettings
from mobileclip_deploy.training.reinforcement.building import reinforce as _reinforce
from mobileclip_deploy.training.reinforcement.captioning import CaptionSettings, caption_pairs, load_captioner
from mobileclip_deploy.training.reinforcement.index import INDEX
from mobileclip_deploy.training.reinforcement.policy import AugmentationPolicy
from mobileclip_deploy.training.reinforcement.teachers import Teacher
from mobileclip_deploy.training.trainer.ranks import PeerFailed, is_rank_zero
from mobileclip_deploy.training.trainer.recipe import Recipe, read_recipe
from mobileclip_deploy.training.trainer.recipe import finetune_recipe as build_recipe
from mobileclip_deploy.training.trainer.running import LogRow, Trained
from mobileclip_deploy.training.trainer.running import train as _train

__all__ = [
    "AugmentationPolicy",
    "DistilledTower",
    "Reinforced",
    "Trained",
    "reinforce",
    "train",
    "train_text_tower",
]


FORMS = {"safetensors": SAFETENSORS, "datacompdr": FLOAT32, "datacompdr-bf16": BFLOAT16}
"""Forms in which reinforced shards can be written."""
R = TypeVar("R")


def reinforce(
    pairs: StrPath,
    teachers: MobileCLIP | Sequence[MobileCLIP] | Callable[[], Sequence[MobileCLIP]],
    output: StrPath,
    *,
    augmentations: Count = 4,
    policy: AugmentationPolicy | None = None,
    seed: Seed = 0,
    shard_rows: Count = 256,
    write: str = "safetensors",
    captioner: str | None = None,
    synthetic: Count = 5,
    scheduler: str | None = None,
    insecure_scheduler: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> Reinforced:
    """Stores teachers' embeddings of augmented images and of captions (docs/reinforcement.md). Resumes a stopped run if
    the images have the same contents.

    Args:
        pairs: a folder with a dataset.json, a .jsonl manifest, or a folder of images.
        teachers: one or several from `load_model`, with both towers; training forms are folded in place. Or a function
            that loads them, called after every other check.
        output: the dataset's folder.
        augmentations: number per image; `policy` sets their strength.
        seed: of the augmentations.
        shard_rows: pairs in a file.
        write: "safetensors", or the form in which Apple publishes such datasets: "datacompdr" (float32) or
            "datacompdr-bf16". Its augmentations are the published ones.
        captioner: a CoCa model of open_clip that writes `synthetic` captions for each image: "coca_ViT-L-14:FILE",
            "coca_ViT-L-14:TAG" or "hf-hub:OWNER/NAME". They are stored after the captions that a pair has.
        scheduler: "local", for as many processes as the cores and the memory of this machine allow. Or the address of a
            Dask scheduler, such as "tls://10.0.0.1:8786", whose workers see pairs and output under the same names. Each
            shard is a task on one thread, and so is each batch of eight images that get captions. None for this process
            alone.
        insecure_scheduler: take an address without TLS, such as "tcp://10.0.0.1:8786", through which whoever reaches
            its port can run code.
        force: keep nothing of an existing dataset in the folder, whatever its pairs, teachers and settings.

    Raises:
        UsageError: the folder holds something else, the form is unknown, or has no policy; or a shard needs more memory
            than a process can have.
        DependencyMissing: `scheduler` without Dask.
        RuntimeFailed: the scheduler does not answer or is lost; stored shards stay.
        InvalidInput: pairs or images cannot be used; shards stored before stay.
    """
    if write not in FORMS:
        raise UsageError(f"unknown format {write!r}{suggestion(write, FORMS)}; known: {', '.join(FORMS)}")
    form = FORMS[write]
    if policy is not None and form is not SAFETENSORS:
        raise UsageError(f"{write} always uses the published augmentations; leave `policy` out")
    settings = ReinforcementSettings(augmentations, policy or AugmentationPolicy(), seed, shard_rows, form, force)
    require_tls(scheduler, insecure_scheduler)
    progress(f"reading {pairs}")
    read = read_pairs(Path(pairs))
    if isinstance(teachers, MobileCLIP):
        teachers = (teachers,)
    loaded = [Teacher.of(Source.of(model).model) for model in (teachers() if callable(teachers) else teachers)]
    folder = Path(output)
    if folder.is_file():
        raise UsageError(f"{folder} is a file; choose another output with `output`")
    with sole_writer(folder / INDEX, "reinforce", force=True):
        if captioner is not None:
            cache = Path(f"{output}.captions.jsonl")
            require_scheduler(scheduler)
            read = caption_pairs(
                read, load_captioner(captioner), CaptionSettings(synthetic, seed), cache, progress, scheduler
            )
        return _reinforce(read, loaded, folder, settings, progress, scheduler)


def train(
    recipe: StrPath | Recipe,
    output: StrPath,
    *,
    data: StrPath | None = None,
    images: StrPath | None = None,
    progress: Progress = silent,
    measured: Callable[[LogRow], None] = lambda _: None,
    announce: Callable[[str], None] = silent,
) -> Trained:
    """Trains on a reinforced dataset, on shards as Apple publishes them or on plain pairs (docs/reinforcement.md).
    Resumes a stopped run of the same training. Under torchrun all processes train together, to the weights of one.

    Args:
        recipe: a YAML file, see `trainer.recipe.Recipe`; or a recipe from `finetune_recipe`.
        output: folder for the checkpoint, the log and the trained weights.
        data: replaces the recipe's `data`.
        images: of published shards, the folder of the shards that hold images and true captions.
        measured: called with loss and held-out recall at each measurement.
        announce: called once with steps, hours and memory, after the first steps.

    Raises:
        InvalidInput: the recipe or its data cannot be used.
        UsageError: the folder holds another training.
    """
    options = optional_path(data), optional_path(images)
    read = recipe if isinstance(recipe, Recipe) else _raise_on_first_rank(lambda: read_recipe(Path(recipe), *options))
    return _train(read, Path(output), progress, measured, announce)


def finetune_recipe(
    data: StrPath, checkpoint: StrPath, *, held_out: StrPath | None = None, preprocess: str | None = None
) -> Recipe:
    """Returns the recipe of a fine-tune (docs/finetune.md): frozen BatchNorm statistics, rates by layer, an early stop.

    Args:
        data: pairs or class folders, in a form of docs/evaluation.md.
        checkpoint: in training form, with both towers.
        held_out: data to measure on; every third picture of `data` when None.
        preprocess: as for `load_model`.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    start = checkpoint_file(Path(checkpoint))
    variant = identify(open_tensors(start)).variant.name
    return build_recipe(variant, start, Path(data), optional_path(held_out), preprocess)


def _raise_on_first_rank(read: Callable[[], R]) -> R:
    """Calls `read`. The first process raises its error; the others raise `PeerFailed`, so that it is printed once."""
    try:
        return read()
    except MobileClipDeployError as error:
        if is_rank_zero():
            raise
        raise PeerFailed(error.line, error.exit_code) from error


def train_text_tower(
    recipe: StrPath | None,
    output: StrPath,
    *,
    parallel: StrPath | Sequence[StrPath] = (),
    languages: Sequence[str] = (),
    checkpoint: StrPath | None = None,
    progress: Progress = silent,
    measured: Callable[[TowerRow], None] = lambda _: None,
    announce: Callable[[str], None] = silent,
) -> DistilledTower:
    """Distils a text tower for other languages over parallel sentences (docs/languages.md). Resumes a stopped run of
    the same training. The image tower stays byte for byte as it is. Under torchrun all processes train together.

    Args:
        recipe: a YAML file, see `language.recipe.TowerRecipe`; its defaults when None.
        output: folder for the checkpoint of the training and, at the end, weights.safetensors.
        parallel: tables of sentences with one column per language (.tsv, .jsonl, .parquet); replaces the recipe's.
        languages: the columns to learn in addition to `en`; replaces the recipe's.
        checkpoint: the teacher, in training form with both towers. The recipe's, or else the built-in one, when None.
        measured: called with the recall on held-out sentences at each measurement.
        announce: called once with steps, hours and memory, after the first steps.

    Raises:
        InvalidInput: the recipe or the sentences cannot be used.
        UsageError: the teacher cannot be one, or the folder holds another training.
        GateFailed: a language was not learned, or English was lost.
    """
    files = (parallel,) if isinstance(parallel, str | PathLike) else parallel
    options = optional_path(recipe), tuple(map(Path, files)), tuple(languages), optional_path(checkpoint)
    read = _raise_on_first_rank(lambda: read_tower_recipe(*options))
    return distil(read, Path(output), progress, measured, announce)
