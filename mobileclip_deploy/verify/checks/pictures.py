"""Checks of artifacts with several forms of input: pictures of any size, prompts of several lengths."""

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
"""Width and height from 64 pixels to 12 megapixels, landscape and portrait. Two of the sizes have an odd number of
columns to crop."""
RESIZED = Bound("relative", 0.01)
"""Bound of the deviation that resizing may cause. Pillow rounds to bytes between its two passes. So with large
photographs, the same filter in exact arithmetic moves nano's embeddings by up to 0.0047. Ours moves them by up to
0.0053, and a browser's canvas by 0.06 to 0.3."""
TIMES = 3


def check_pictures(subject: Subject, tower: TowerName) -> list[Check]:
    """Checks the artifact's answers to unscaled photographs against its answers to Pillow's pixels of them.

    The photographs are those of the package, scaled to `SIZES`; every second one has a fourth channel. Activations are
    not rounded in these runs. Otherwise a pixel difference of one level can become a step of int8, which is not an
    error of resizing.
    """
    try:
        runner = subject.artifact(tower).plain_runner()
    except NotRun as error:
        return [Check.not_run(PICTURES, tower, str(error))]
    assert isinstance(runner, PictureRunner)
    spec = subject.bundle.manifest.preprocess
    expected, actual = [], []
    for index, (path, size) in enumerate(zip(image_paths(), SIZES, strict=False)):
        picture = load_image(path).resize(size, Image.Resampling.LANCZOS)
        expected.append(runner(preprocess(picture, spec).numpy()[None])[0])
        actual.append(runner.picture(np.asarray(picture.convert("RGBA") if index % 2 else picture, dtype=np.uint8)))
    bound = subject.gates.shipped("fp16", None, True) if subject.head.names else RESIZED
    check = Check.of_answers(PICTURES, tower, np.stack(expected), np.stack(actual), bound, runner.engine)
    shipped = subject.runner(tower)
    assert isinstance(shipped, PictureRunner)
    cost = f"a photograph of 12 megapixels adds {_cost(shipped, spec.size):.2f} times the tower's CPU time"
    return [check.model_copy(update={"detail": cost if check.detail is None else f"{check.detail}; {cost}"})]


def _cost(runner: PictureRunner, size: int) -> float:
    """Returns the CPU time that resizing a photograph of 12 megapixels adds, as a share of the tower's time."""
    width, height = SIZES[-1]
    whole = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    square = np.ascontiguousarray(whole[:size, :size])
    durations: tuple[list[float], list[float]] = ([], [])
    for _ in range(TIMES + 1):  # the first run allocates memory for the others
        for picture, times in zip((whole, square), durations, strict=True):
            start = time.process_time()
            runner.picture(picture)
            times.append(time.process_time() - start)
    large, small = (statistics.median(times[1:]) for times in durations)
    return max(large / small - 1, 0.0)


CONTEXTS = "contexts"


def check_contexts(subject: Subject, tower: TowerName) -> Iterator[Check]:
    """Checks the answers to prompts cut to each shorter context against the checkpoint's answers at full length.

    The bound is that of `shipped`, whose inputs have the full length. A slow runtime runs as few prompts as there.
    """
    bound = subject.bound(tower)
    for load in subject.artifact(tower).runners():
        try:
            runner = load()
        except RuntimeFailed as error:  # if no engine accepts it, `shipped` has reported that
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
        answers = runner(np.ascontiguousarray(ids[rows, :length]))
    except (InvalidInput, RuntimeFailed) as error:  # it accepts the full length only
        detail = f"{length} tokens: {error}"
        return Check(step=CONTEXTS, tower="text", status="failed", engine=runner.engine, detail=detail)
    check = Check.of_answers(CONTEXTS, "text", subject.wanted("text")[rows], answers, bound, runner.engine)
    return check.model_copy(update={"detail": f"{length} tokens, {len(rows)} of {len(ids)} prompts"})
