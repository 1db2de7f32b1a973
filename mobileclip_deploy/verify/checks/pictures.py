"""Check of artifacts that take pictures of any size."""

import statistics
import time

import numpy as np
from PIL import Image

from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import NotRun
from mobileclip_deploy.network.model.preprocessing import load_image, preprocess
from mobileclip_deploy.network.samples import image_paths
from mobileclip_deploy.parity import Bound, Check, compare
from mobileclip_deploy.parity.gates import LEAST
from mobileclip_deploy.targets.values import PictureRunner
from mobileclip_deploy.verify.subject import TowerProof

SIZES = ((64, 48), (48, 64), (85, 64), (427, 640), (1001, 751), (4000, 3000), (3000, 4000))
"""Width and height from 64 pixels to 12 megapixels, landscape and portrait. Two of the sizes have an odd number of
columns to crop."""
TIMES = 3


def check_pictures(tower: TowerProof) -> list[Check]:
    """Checks the artifact's answers to unscaled photographs against its answers to Pillow's pixels of them.

    The photographs are those of the package, scaled to `SIZES`; every second one has a fourth channel. Activations are
    not rounded in these runs. Otherwise a pixel difference of one level can become a step of int8, which is not an
    error of resizing.

    Pillow and the graph round to bytes twice, so each value may be one level apart. The bound of a photograph is how
    far the tower's answer moves if every value is. A picture of one colour stays as it is. The worst one is reported.
    """
    try:
        runner = tower.artifact.plain_runner()
    except NotRun as error:
        return [Check.not_run("pictures", tower.name, str(error))]
    assert isinstance(runner, PictureRunner)
    subject, spec = tower.subject, tower.subject.bundle.manifest.preprocess
    expected, actual, bounds = [], [], []
    for index, (path, size) in enumerate(zip(image_paths(), SIZES, strict=False)):
        picture = load_image(path).resize(size, Image.Resampling.LANCZOS)
        colour = Image.new("RGB", size, tuple(np.asarray(picture).mean(axis=(0, 1)).astype(int)))
        for source in (picture, colour):
            pixels = preprocess(source, spec)
            expected.append(runner(pixels[None]))
            actual.append(runner.picture(np.asarray(source.convert("RGBA") if index % 2 else source, np.uint8))[None])
            moved = compare(expected[-1], runner(one_level_apart(pixels, index)[None])).relative
            bounds.append(Bound("relative", LEAST if source is colour else moved))
    trials = list(zip(expected, actual, bounds, strict=True))
    if subject.head.names:
        trials = [(np.concatenate(expected), np.concatenate(actual), subject.gates.shipped("fp16", None, True))]
    checks = [Check.of_answers("pictures", tower.name, *trial, runner.engine) for trial in trials]
    check = max(checks, key=lambda one: (one.status == "failed", one.deviation.relative if one.deviation else 0.0))
    shipped = tower.runner
    assert isinstance(shipped, PictureRunner)
    cost = f"a photograph of 12 megapixels adds {_cost(shipped, spec.size):.2f} times the tower's CPU time"
    return [check.model_copy(update={"detail": cost if check.detail is None else f"{check.detail}; {cost}"})]


def one_level_apart(pixels: Floats, seed: int) -> Floats:
    """Returns pixels [3, S, S] in [0, 1] with every value one level higher or lower, at random."""
    moved = np.random.default_rng(seed).choice([-1, 1], pixels.shape)
    return (np.clip(np.rint(pixels * 255) + moved, 0, 255) / 255).astype(np.float32)


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
