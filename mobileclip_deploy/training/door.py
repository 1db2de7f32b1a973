"""`reinforce`, `train`, `train_text_tower` and `recover`: reinforced datasets, students of them, text towers for other
languages, towers trained for a precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeVar

from mobileclip_deploy.base.arguments import Count, Seed
from mobileclip_deploy.base.files import StrPath, optional_path
from mobileclip_deploy.base.files.writers import sole_writer
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.base.scheduling import check_scheduler, require_scheduler
from mobileclip_deploy.errors import MobileClipDeployError, UsageError, suggestion
from mobileclip_deploy.evaluation.pairs import read_pairs
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.training.datacompdr.writing import BFLOAT16, FLOAT32
from mobileclip_deploy.training.language.distilling import DistilledTower, TowerRow, distil
from mobileclip_deploy.training.language.recipe import read_tower_recipe
from mobileclip_deploy.training.recovery.plan import RecoveryRequest, plan_recovery
from mobileclip_deploy.training.recovery.plan import Settings as RecoverySettings
from mobileclip_deploy.training.recovery.recovering import Recovery
from mobileclip_deploy.training.recovery.recovering import recover as _recover
from mobileclip_deploy.training.reinforcement.building import SAFETENSORS, Existing, Reinforced, ReinforcementSettings
from mobileclip_deploy.training.reinforcement.building import reinforce as _reinforce
from mobileclip_deploy.training.reinforcement.captioning import CaptionSettings, caption_pairs, load_captioner
from mobileclip_deploy.training.reinforcement.index import INDEX
from mobileclip_deploy.training.reinforcement.policy import AugmentationPolicy
from mobileclip_deploy.training.reinforcement.teachers import Teacher
from mobileclip_deploy.training.trainer.leading import OtherFailed, leads
from mobileclip_deploy.training.trainer.recipe import read_recipe
from mobileclip_deploy.training.trainer.running import LogRow, Trained
from mobileclip_deploy.training.trainer.running import train as _train

__all__ = [
    "AugmentationPolicy",
    "DistilledTower",
    "Recovery",
    "RecoverySettings",
    "Reinforced",
    "Trained",
    "recover",
    "reinforce",
    "train",
    "train_text_tower",
]


FORMS = {"safetensors": SAFETENSORS, "datacompdr": FLOAT32, "datacompdr-bf16": BFLOAT16}
"""How reinforced shards can be written."""
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
    force: bool = False,
    progress: Progress = silent,
) -> Reinforced:
    """Store teachers' embeddings of augmented images and of captions (docs/reinforcement.md); resumes what was stopped,
    as far as the images have the same contents.

    Args:
        pairs: a folder with a dataset.json, a .jsonl manifest, or a folder of images.
        teachers: one or several from `load_model`, with both towers; training forms are folded in place. Or a function
            that loads them, which is called when nothing else is left to refuse.
        output: the dataset's folder.
        augmentations: of each image; `policy` says how far they go.
        seed: of the augmentations.
        shard_rows: pairs in a file.
        write: "safetensors", or the form in which Apple publishes such datasets, which `train` reads and `recover` does
            not: "datacompdr" (float32) or "datacompdr-bf16". Its augmentations are the published ones.
        captioner: a CoCa model of open_clip that writes `synthetic` captions for each image, which are stored behind
            those that a pair has: "coca_ViT-L-14:FILE", "coca_ViT-L-14:TAG" or "hf-hub:OWNER/NAME".
        scheduler: "local", for as many processes on this machine as its cores and its memory allow; or the address of
            a Dask scheduler, such as "tcp://10.0.0.1:8786", whose workers see pairs and output under the same names.
            Each shard, and eight images that get captions, are a task on one thread. None for this process alone.
        force: keep nothing of a dataset that stands in the folder, whatever it was made of.

    Raises:
        UsageError: the folder holds something else, the form is unknown, or has no policy; or a shard needs more memory
            than a process can have.
        DependencyMissing: `scheduler` without Dask.
        RuntimeFailed: the scheduler does not answer or is lost; what was stored stays.
        InvalidInput: pairs or images cannot be used; what was stored before stays.
    """
    if write not in FORMS:
        raise UsageError(f"unknown form {write!r}{suggestion(write, FORMS)}; known: {', '.join(FORMS)}")
    form = FORMS[write]
    if policy is not None and form is not SAFETENSORS:
        raise UsageError(f"{write} has the published augmentations; leave `policy` out")
    existing: Existing = "discard" if force else "continue"
    settings = ReinforcementSettings(augmentations, policy or AugmentationPolicy(), seed, shard_rows, form, existing)
    check_scheduler(scheduler)
    read = read_pairs(Path(pairs))
    if isinstance(teachers, MobileCLIP):
        teachers = (teachers,)
    asked = [Teacher.of(Source.of(model).model) for model in (teachers() if callable(teachers) else teachers)]
    folder = Path(output)
    if folder.is_file():
        raise UsageError(f"{folder} is a file; choose another output with `output`")
    with sole_writer(folder / INDEX, "reinforce", force=True):
        if captioner is not None:
            kept = Path(f"{output}.captions.jsonl")
            require_scheduler(scheduler)
            read = caption_pairs(
                read, load_captioner(captioner), CaptionSettings(synthetic, seed), kept, progress, scheduler
            )
        return _reinforce(read, asked, folder, settings, progress, scheduler)


def train(
    recipe: StrPath,
    output: StrPath,
    *,
    data: StrPath | None = None,
    images: StrPath | None = None,
    progress: Progress = silent,
    measured: Callable[[LogRow], None] = lambda _: None,
) -> Trained:
    """Train on a reinforced dataset, on shards as Apple publishes them or on plain pairs (docs/reinforcement.md), or go
    on where the same run was stopped. Under torchrun all processes train together, to the weights of one.

    Args:
        recipe: a YAML file, see `training.Recipe`.
        output: folder for the checkpoint, the log and the trained weights.
        data: instead of what the recipe names as `data`.
        images: of published shards, the folder of the shards that hold images and true captions.
        measured: told loss and held-out recall whenever they are measured.

    Raises:
        InvalidInput: the recipe or its data cannot be used.
        UsageError: the folder holds another training.
    """
    read = _told_once(lambda: read_recipe(Path(recipe), optional_path(data), optional_path(images)))
    return _train(read, Path(output), progress, measured)


def _told_once(read: Callable[[], R]) -> R:
    """What is read; what is wrong with it the first process says, and the others end with it."""
    try:
        return read()
    except MobileClipDeployError as error:
        if leads():
            raise
        raise OtherFailed(error.line, error.exit_code) from error


def train_text_tower(
    recipe: StrPath | None,
    output: StrPath,
    *,
    parallel: StrPath | Sequence[StrPath] = (),
    languages: Sequence[str] = (),
    checkpoint: StrPath | None = None,
    progress: Progress = silent,
    measured: Callable[[TowerRow], None] = lambda _: None,
) -> DistilledTower:
    """Distil a text tower for other languages over parallel sentences, or go on where the same run was stopped
    (docs/languages.md). The image tower stays byte for byte as it is. Under torchrun all processes train together.

    Args:
        recipe: a YAML file, see `language.TowerRecipe`; its defaults when None.
        output: folder for the checkpoint of the training and, at the end, weights.safetensors.
        parallel: tables of sentences with one column per language (.tsv, .jsonl, .parquet), instead of the recipe's.
        languages: the columns to learn beside `en`, instead of the recipe's.
        checkpoint: the teacher, in training form with both towers; the recipe's, or else the built-in one, when None.
        measured: told what is found of held-out sentences whenever it is measured.

    Raises:
        InvalidInput: the recipe or the sentences cannot be used.
        UsageError: the teacher cannot be one, or the folder holds another training.
        GateFailed: a language was not learned, or English was lost.
    """
    files = (parallel,) if isinstance(parallel, str | PathLike) else parallel
    told = optional_path(recipe), tuple(map(Path, files)), tuple(languages), optional_path(checkpoint)
    read = _told_once(lambda: read_tower_recipe(*told))
    return distil(read, Path(output), progress, measured)


def recover(
    model: MobileCLIP,
    precision: str,
    data: StrPath,
    output: StrPath,
    *,
    tower: str = "both",
    target: str = "coreml",
    work: StrPath | None = None,
    settings: RecoverySettings | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Recovery:
    """Train towers on the grid of a precision to answer as they did in float (docs/reinforcement.md).

    Args:
        model: from `load_model`; a training form is folded in place.
        precision: one for both towers, or "image=w4,text=w4p".
        data: images and captions like those of the app, as for `reinforce`, or what this checkpoint reinforced.
        output: .safetensors, a folded checkpoint to export at that precision.
        tower: "image", "text" or "both".
        target: whose grids to train on, such as "coreml", "onnx" or "executorch" (XNNPACK); export for it then.
        work: where the original's embeddings are kept; beside the output when None.
        settings: how long to train.
        force: replace the output, embed anew what is stored beside it, and replace what `work` holds of other data.

    Raises:
        UsageError: the target or precision cannot be recovered for, the checkpoint lacks a tower, or the output exists.
        InvalidInput: the data or the output cannot be used.
    """
    request = RecoveryRequest(
        precision=precision,
        data=Path(data),
        output=Path(output),
        tower=tower,
        target=target,
        work=optional_path(work),
        settings=settings or RecoverySettings(),
        force=force,
    )
    return _recover(plan_recovery(request, Source.of(model)), progress)
