"""Making of a reinforced dataset, shard by shard. Each complete shard is recorded, so that a stop loses one at most."""

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mobileclip_deploy.base.files import content_sha256, file_sha256, write_whole
from mobileclip_deploy.base.files.names import with_fields
from mobileclip_deploy.base.files.staging import claimed
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.base.scheduling import Failed, Task, require_scheduler, run_tasks
from mobileclip_deploy.errors import InvalidInput, UsageError
from mobileclip_deploy.evaluation.pairs import Pair, Pairs
from mobileclip_deploy.network.model.preprocessing import load_image
from mobileclip_deploy.training.reinforcement.augmentation import draw
from mobileclip_deploy.training.reinforcement.index import INDEX, OURS, PAIRS, ShardEntry, ShardIndex, read_index
from mobileclip_deploy.training.reinforcement.policy import PARAMETERS, AugmentationPolicy
from mobileclip_deploy.training.reinforcement.shards import SHARDS, Shard, read_shard, write_shard
from mobileclip_deploy.training.reinforcement.teachers import BATCH, SharedTeacher, Teacher, Views, loaded, share

TARS = f"{'[0-9]' * 8}.tar"
TEACHERS = "teachers"
LEFT_BY_IT = (PAIRS, f".{PAIRS}.", f".{INDEX}.", f".{TEACHERS}.")
MOST_SHARDS = 15_000
"""Most shards of a dataset: a larger index would exceed the size limit of settings files."""
OWN_BYTES, PIXEL_BYTES, PICTURE_BYTES = 600_000_000, 240, 500_000
"""Bytes of memory: of a process without weights; of an image tower per pixel of a batch (measured: 150 at most); of one
picture."""


@dataclass(frozen=True)
class ShardJob:
    """Pairs that become one shard; `first` is the index of the first. `folder` is the folder that their images are
    relative to."""

    rows: Sequence[Pair]
    first: int
    folder: Path
    teachers: Sequence[Teacher | SharedTeacher]


@dataclass(frozen=True)
class ShardFormat:
    """Storage form of shards. `format` and `dtype` are those that the index names. `write` makes a shard and writes it
    into a folder; `digests` reads the SHA-256 of its image files."""

    format: Literal["mobileclip-deploy/reinforced", "mobileclip-deploy/datacompdr"]
    dtype: Literal["bfloat16", "float32"]
    write: Callable[[ShardJob, ShardIndex, Path], ShardEntry]
    digests: Callable[[Path, ShardIndex, ShardEntry], list[str]]


def _write(job: ShardJob, index: ShardIndex, folder: Path) -> ShardEntry:
    return write_shard(folder, job.first, _embed(job, index))


def _digests(folder: Path, index: ShardIndex, entry: ShardEntry) -> list[str]:
    return [bytes(digest).hex() for digest in read_shard(folder, index, entry).image_sha256.numpy()]


SAFETENSORS = ShardFormat(OURS, "bfloat16", _write, _digests)
"""The toolkit's own format."""


@dataclass(frozen=True)
class ReinforcementSettings:
    """Settings of `reinforce`. `augmentations`: number per image, with strengths by `policy`. `seed`: each image's
    draws depend on it and on the image's index alone. `shard_rows`: pairs in a file, written in `shard_format`.
    `force`: an existing dataset is replaced, not resumed."""

    augmentations: int = 4
    policy: AugmentationPolicy = field(default_factory=AugmentationPolicy)
    seed: int = 0
    shard_rows: int = 256
    shard_format: ShardFormat = SAFETENSORS
    force: bool = False


@dataclass(frozen=True)
class Reinforced:
    """A complete dataset in `folder`; `made` and `kept` count shards that were written now, or were already intact."""

    folder: Path
    index: ShardIndex
    captioned: bool
    made: int
    kept: int


def reinforce(
    pairs: Pairs,
    teachers: Sequence[Teacher],
    folder: Path,
    settings: ReinforcementSettings = ReinforcementSettings(),
    progress: Progress = silent,
    scheduler: str | None = None,
) -> Reinforced:
    """Makes a dataset as `training.door.reinforce` does, of pairs that were read. The result depends on the arguments
    alone, not on where earlier runs stopped. On a scheduler each shard computes on one thread, so that the bytes are
    the same with any number of processes.

    Raises:
        UsageError: the folder holds other files, or a dataset of other pairs, teachers or settings that must not be
            replaced; or the shards are more than an index holds.
        DependencyMissing, RuntimeFailed: see `run_tasks`.
        InvalidInput: an image is missing or cannot be read; complete shards stay.
    """
    if not teachers or settings.augmentations < 1 or settings.shard_rows < 1:
        raise UsageError("a reinforced dataset needs a teacher, an augmentation and a pair in a shard at least")
    require_scheduler(scheduler)
    if -(-len(pairs.rows) // settings.shard_rows) > MOST_SHARDS:
        raise UsageError(
            f"{len(pairs.rows):,} pairs in shards of {settings.shard_rows} are more shards than an index allows "
            f"({MOST_SHARDS:,}); write at least {-(-len(pairs.rows) // MOST_SHARDS)} pairs in each with `shard_rows`"
        )
    lines, shard_format = pairs.as_lines(), settings.shard_format
    ours = shard_format.format == OURS
    expected = ShardIndex(
        format=shard_format.format,
        dtype=shard_format.dtype,
        images=str(pairs.folder.resolve()),
        rows=len(pairs.rows),
        pairs_sha256=content_sha256(lines.encode()),
        augmentations=settings.augmentations,
        parameters=PARAMETERS if ours else (),
        policy=settings.policy if ours else None,
        seed=settings.seed,
        shard_rows=settings.shard_rows,
        teachers=tuple(teacher.entry for teacher in teachers),
    )
    stored = _begun(folder, expected, lines, settings.force)
    progress("checking stored shards")
    intact = {entry.first: entry for entry in stored.shards if _holds(folder, stored, entry, pairs, shard_format)}
    index = with_fields(stored, images=expected.images, shards=tuple(intact.values()))
    starts = range(0, len(pairs.rows), settings.shard_rows)
    names = {first: f"shard {index + 1} of {len(starts)}" for index, first in enumerate(starts)}
    failures: list[Failed] = []

    def record(_: Task, made: ShardEntry | Failed) -> None:
        nonlocal index
        if isinstance(made, Failed):
            failures.append(made)
            return
        shards = sorted((*index.shards, made), key=lambda one: one.first)
        index = index.model_copy(update={"shards": tuple(shards)})
        index.write(folder)

    with _shared(teachers, folder, scheduler) as shared:
        bare = index.model_copy(update={"shards": ()})  # without shards, as it is sent to workers
        need = task_memory(teachers, settings)
        output = folder.absolute()
        tasks = []
        for first in (one for one in starts if one not in intact):
            rows = pairs.rows[first : first + settings.shard_rows]
            job = ShardJob(rows, first, pairs.folder.absolute(), shared)
            tasks.append(Task(names[first], _make, (shard_format, job, bare, output, scheduler), need))
        run_tasks(tasks, record, scheduler, progress=progress)
    if failures:
        raise failures[0].error
    if len(intact) == len(starts) and index != stored:
        index.write(folder)  # the same pictures, in another folder
    return Reinforced(folder, index, pairs.captioned, made=len(starts) - len(intact), kept=len(intact))


def task_memory(teachers: Sequence[Teacher], settings: ReinforcementSettings) -> int:
    """Returns an upper bound of the bytes of a process that makes a shard. It counts the process with its packages, the
    weights twice (while they are read), an image tower's activations of a batch, and the shard.

    Measured with docs/reinforcement.md's command: a nano's process had 0.4 GB, one of mobileclip_s0 1.2 GB.
    """
    weights = sum(weight.numel() for teacher in teachers for weight in teacher.model.parameters())
    pixels = max(teacher.entry.image_size for teacher in teachers) ** 2
    values = settings.augmentations * sum(teacher.entry.embed_dim for teacher in teachers)
    return OWN_BYTES + 8 * weights + BATCH * pixels * PIXEL_BYTES + settings.shard_rows * (PICTURE_BYTES + 8 * values)


@contextlib.contextmanager
def _shared(
    teachers: Sequence[Teacher], folder: Path, scheduler: str | None
) -> Iterator[Sequence[Teacher | SharedTeacher]]:
    """Yields the teachers for tasks: themselves, or files of their weights for other processes, removed at the end."""
    if scheduler is None:
        yield teachers
        return
    with claimed(folder.absolute() / TEACHERS) as claim:
        claim.partial.mkdir()
        yield [share(teacher, claim.partial / f"{index}.safetensors") for index, teacher in enumerate(teachers)]


def _make(
    shard_format: ShardFormat, job: ShardJob, index: ShardIndex, folder: Path, scheduler: str | None
) -> ShardEntry:
    """Makes one shard, in this process or in a worker."""
    if scheduler is not None:
        torch.set_num_threads(1)  # sums of float32 depend on the number of threads
        for path in (folder, job.folder):
            if not path.is_dir():
                raise InvalidInput(
                    f"{path} is missing on {socket.gethostname()}; pairs and output must be on a disk that all workers "
                    "see at the same path"
                )
    return shard_format.write(job, index, folder)


def _begun(folder: Path, wanted: ShardIndex, lines: str, force: bool) -> ShardIndex:
    """Returns the index of a stored dataset that can be resumed, or a new one."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; choose another output with `output`")
    if (folder / INDEX).is_file():
        stored = read_index(folder)
        differ = wanted.differences(stored)
        if not differ and not force:
            return stored
        if not force and stored.shards:  # without a shard nothing could be lost
            raise UsageError(
                f"{folder} has a dataset with other {', '.join(differ)}; choose another folder, replace it with "
                "`force=True`, or give the same settings"
            )
        for shard in (*folder.glob(SHARDS), *folder.glob(TARS)):
            shard.unlink()
    # Leftovers of a run that was stopped before its first index was written do not count.
    elif folder.is_dir() and any(not path.name.startswith(LEFT_BY_IT) for path in folder.iterdir()):
        raise UsageError(f"{folder} exists and is not a reinforced dataset; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / PAIRS, lines)
    wanted.write(folder)
    return wanted


def _holds(folder: Path, index: ShardIndex, entry: ShardEntry, pairs: Pairs, shard_format: ShardFormat) -> bool:
    """Returns whether a shard is whole and of the current pictures: equal names and captions do not prove that."""
    rows = pairs.rows[entry.first : entry.first + entry.rows]
    try:
        return shard_format.digests(folder, index, entry) == [file_sha256(pairs.folder / row.image) for row in rows]
    except (InvalidInput, OSError):
        return False  # it is made again, or refused with the picture's name


def _embed(job: ShardJob, index: ShardIndex) -> Shard:
    digests, parameters = [], []
    policy, rows = index.policy or AugmentationPolicy(), job.rows
    embedders = [(teacher, Views(teacher)) for teacher in map(loaded, job.teachers)]
    for row_index, row in enumerate(rows, start=job.first):
        path = job.folder / row.image
        image = load_image(path)
        chance = np.random.default_rng((index.seed, row_index))
        drawn = draw(policy, index.augmentations, image.width, image.height, chance)
        for _, views in embedders:
            views.add(image, torch.from_numpy(drawn))
        parameters.append(drawn)
        digests.append(np.frombuffer(bytes.fromhex(file_sha256(path)), np.uint8))
    texts = [text for row in rows for text in row.texts]
    return Shard(
        parameters=torch.from_numpy(np.stack(parameters)),
        image_sha256=torch.from_numpy(np.stack(digests)),
        captions=torch.tensor([len(row.texts) for row in rows]),
        images=tuple(views.embeddings().reshape(len(rows), index.augmentations, -1) for _, views in embedders),
        texts=tuple(teacher.texts(texts) for teacher, _ in embedders),
    )
