"""`Embedder`: both towers of a bundle, with everything needed to make their inputs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.heads.contexts import ContextRunner
from mobileclip_deploy.artifacts.heads.label_head import Thresholds
from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.scores import Scores
from mobileclip_deploy.network.model.variants import TOWERS, Preprocess, TokenizerSpec, TowerName
from mobileclip_deploy.pictures.image_sources import AS_IT_STANDS, ImageView
from mobileclip_deploy.targets import Runner, found_places, installed_target
from mobileclip_deploy.targets.values import ThreadedRunner


@dataclass(frozen=True)
class Embedder:
    """Both towers of something that can run here, with everything needed to make their inputs.

    Attributes:
        artifact: returns the hash of a tower's file or weights, which identifies it.
        tokenizer: None if the variant takes images alone.
        labels: of a classifier, whose `images` returns a value for each label instead of an embedding.
        thresholds: of labels that were learned from pictures; says which are present.
        view: the part of every picture that is shown.
        thread_safe_images: returns an `images` for many threads, each call on one core. None if not supported.
        has_latency: True if an app's runtime computes the embeddings here. The speed of an evaluator or an emulator
            means nothing, and is not reported.
    """

    name: str
    variant: str
    engine: str
    embedding_space: str
    images: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
    texts: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
    artifact: Callable[[TowerName], str]
    preprocess: Preprocess
    tokenizer: TokenizerSpec | None
    template: str
    scores: Scores
    labels: tuple[str, ...] = ()
    thresholds: Thresholds | None = None
    view: ImageView = AS_IT_STANDS
    thread_safe_images: Callable[[], Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]] | None = None
    has_latency: bool = True

    def with_view(self, view: ImageView) -> Embedder:
        """Returns a copy that is shown a view of every picture."""
        return replace(self, view=view, template=view.template or self.template)


class _Queued:
    """A runner that one thread calls at a time."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self._lock, self.engine = runner, threading.Lock(), runner.engine

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        with self._lock:
            return self._runner(inputs)


class LoadedBundle(Bundle):
    """A bundle whose towers stay loaded, for many threads: see `OpenBundle`."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle.path, bundle.manifest)
        self.__dict__.update(_runners={}, _lock=threading.Lock(), _closed=False)  # the fields of a bundle are frozen

    _runners: dict[TowerName, Runner]
    _lock: threading.Lock
    _closed: bool

    def close(self) -> None:
        """Unloads the towers; the bundle cannot be used afterwards."""
        with self._lock:
            self._runners.clear()
            self.__dict__["_closed"] = True

    def runner(self, tower: TowerName) -> Runner:
        """Returns the runner of a tower, loaded on first use.

        Raises:
            UsageError: the bundle is closed, or lacks the tower.
            NotRun, RuntimeFailed: nothing here can run it.
        """
        with self._lock:
            if self._closed:
                raise UsageError(f"{self.path} was closed; open it again")
            if tower not in self._runners:
                runner = tower_runner(Bundle(self.path, self.manifest), tower, lazily=True)
                self._runners[tower] = runner.alone() if isinstance(runner, ThreadedRunner) else _Queued(runner)
            return self._runners[tower]


def tower_runner(bundle: Bundle, tower: TowerName, *, lazily: bool = False) -> Runner:
    """Loads one of a bundle's artifacts to run it here. A text tower of several contexts runs at the shortest that fits
    a prompt.

    Args:
        lazily: it may be loaded on first use.

    Raises:
        UsageError: the bundle lacks the tower.
        NotRun, RuntimeFailed: nothing here can run it.
    """
    if isinstance(bundle, LoadedBundle):
        return bundle.runner(tower)
    artifact, entry = bundle.artifact(tower), bundle.manifest.towers[tower]
    opened_artifact = installed_target(bundle.manifest.target).open(artifact, entry.function)
    runner = opened_artifact.lazy_runner() if lazily else opened_artifact.runner()
    if entry.contexts is None:
        return runner
    return ContextRunner(runner, runner.engine, entry.contexts, bundle.manifest.tokens)


def bundle_embedder(
    bundle: Bundle, towers: Sequence[TowerName] | None = None, load: Callable[[TowerName], Runner] | None = None
) -> Embedder:
    """Makes an embedder of a bundle's artifacts, run here. Loads only the named towers.

    Args:
        towers: both if None; of a classifier its image tower.
        load: returns the runner of a tower that is already loaded.

    Raises:
        UsageError: the bundle lacks a tower.
        NotRun, RuntimeFailed: nothing here can run it.
    """
    manifest = bundle.manifest
    if towers is None:
        towers = TOWERS if manifest.classifier is None else ("image",)
    # Pictures may only need a runner's `alone`.
    load = load or (lambda tower: tower_runner(bundle, tower, lazily=tower == "image"))
    runners = {tower: load(tower) for tower in towers}
    return Embedder(
        name=bundle.path.name,
        variant=manifest.variant,
        engine=runners[towers[0]].engine,
        embedding_space=manifest.embedding_space,
        images=lambda pixels: runners["image"](pixels),
        texts=lambda ids: runners["text"](ids),
        artifact=lambda tower: manifest.towers[tower].sha256,
        preprocess=manifest.preprocess,
        tokenizer=manifest.tokenizer,
        template=manifest.template,
        scores=manifest.scores,
        thread_safe_images=image.alone if isinstance(image := runners.get("image"), ThreadedRunner) else None,
        labels=() if manifest.classifier is None else manifest.classifier.labels,
        thresholds=manifest.classifier.tags.thresholds if manifest.classifier and manifest.classifier.tags else None,
        has_latency=bool(found_places(installed_target(manifest.target), "host", manifest.options)),
    )
