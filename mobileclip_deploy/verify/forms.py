"""Checks of artifacts that take more than one form of input: pictures of any size, prompts at lengths of their own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image

from mobileclip_deploy.artifacts.towers.contexts import fitting
from mobileclip_deploy.errors import InvalidInput, NotRun, RuntimeFailed
from mobileclip_deploy.network.model.preprocessing import load_image, preprocess
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.parity import Bound, Check
from mobileclip_deploy.targets import Runner
from mobileclip_deploy.targets.values import PictureRunner
from mobileclip_deploy.verify.subject import Subject

PICTURES = "pictures"
SIZES = ((64, 48), (48, 64), (85, 64), (427, 640), (1001, 751), (4000, 3000), (3000, 4000))
"""Width and height: from 64 pixels to 12 megapixels, wide and high; of two an odd number of columns is left over."""
RESIZED = Bound("relative", 0.01)
"""Bound of what resizing may move embeddings by. With large photographs, the same filter in exact arithmetic moves
nano's by up to 0.0047, because Pillow rounds to bytes between its two passes; ours moves them by up to 0.0053. A
browser's canvas moves them by 0.06 to 0.3."""
TIMES = 3


def check_pictures(subject: Subject, tower: TowerName) -> list[Check]:
    """What the artifact answers to photographs as they are, against what it answers to Pillow's pixels of them.

    The photographs are those of the package, scaled to `SIZES`; of every second one there is a fourth channel. Run with
    activations that are not rounded: a level's difference is a step of int8 soon, which is not the resizing's fault.
    """
    try:
        runner = subject.artifact(tower).plain_runner()
    except NotRun as error:
        return [Check.not_run(PICTURES, tower, str(error))]
    assert isinstance(runner, PictureRunner)
    spec = subject.bundle.manifest.preprocess
    wanted, found = [], []
    for number, (path, size) in enumerate(zip(image_paths(), SIZES, strict=False)):
        picture = load_image(path).resize(size, Image.Resampling.LANCZOS)
        wanted.append(runner(preprocess(picture, spec).numpy()[None])[0])
        found.append(runner.picture(np.asarray(picture.convert("RGBA") if number % 2 else picture, dtype=np.uint8)))
    bound = subject.gates.shipped("fp16", None, True) if subject.head.names else RESIZED
    check = Check.of_answers(PICTURES, tower, np.stack(wanted), np.stack(found), bound, runner.engine)
    shipped = subject.runner(tower)
    assert isinstance(shipped, PictureRunner)
    cost = f"a photograph of 12 megapixels adds {_cost(shipped, spec.size):.2f} times the tower's CPU time"
    return [check.model_copy(update={"detail": cost if check.detail is None else f"{check.detail}; {cost}"})]


def _cost(runner: PictureRunner, size: int) -> float:
    """What resizing a photograph of 12 megapixels adds to the CPU time of a tower, as a share of that time."""
    width, height = SIZES[-1]
    whole = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    square = np.ascontiguousarray(whole[:size, :size])
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMES + 1):  # the first makes room for what the others need
        for picture, times in zip((whole, square), taken, strict=True):
            begun = time.process_time()
            runner.picture(picture)
            times.append(time.process_time() - begun)
    large, small = (statistics.median(times[1:]) for times in taken)
    return max(large / small - 1, 0.0)


CONTEXTS = "contexts"


def check_contexts(subject: Subject, tower: TowerName) -> Iterator[Check]:
    """The reference's prompts that a context holds, cut to it, against what the checkpoint answers at full length.

    The bound is that of `shipped`, whose inputs have the full length; a slow runtime is asked as many of them.
    """
    bound = subject.bound(tower)
    for load in subject.artifact(tower).runners():
        try:
            runner = load()
        except RuntimeFailed as error:  # where no engine takes it, `shipped` has said so
            yield Check.not_run(CONTEXTS, tower, str(error))
            continue
        for length in subject.contexts[:-1]:
            yield _at_length(subject, length, runner, bound)


def _at_length(subject: Subject, length: int, runner: Runner, bound: Bound) -> Check:
    ids = subject.evidence.reference.inputs.ids
    tokenizer = subject.bundle.manifest.tokens
    rows = np.flatnonzero(fitting(ids, (length,), tokenizer) == length)
    if not len(rows):
        return Check.not_run(CONTEXTS, "text", f"none of the {len(ids)} prompts fits into {length} tokens")
    rows = rows[subject.asked("text", ids[rows, :length])]
    try:
        found = runner(np.ascontiguousarray(ids[rows, :length]))
    except (InvalidInput, RuntimeFailed) as error:  # it takes the full length alone
        detail = f"{length} tokens: {error}"
        return Check(step=CONTEXTS, tower="text", status="failed", engine=runner.engine, detail=detail)
    check = Check.of_answers(CONTEXTS, "text", subject.wanted("text")[rows], found, bound, runner.engine)
    return check.model_copy(update={"detail": f"{length} tokens, {len(rows)} of {len(ids)} prompts"})
