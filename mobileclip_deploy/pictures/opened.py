"""`open_bundle`: a bundle whose towers stay loaded, for a service or a notebook."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.artifacts.heads.labels import given_labels
from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.errors import RuntimeFailed, UsageError
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.pictures.embedder import LoadedBundle, tower_runner
from mobileclip_deploy.pictures.embedding import unit
from mobileclip_deploy.pictures.inputs import ImageLike, preprocess, tokenize
from mobileclip_deploy.targets import Runner
from mobileclip_deploy.targets.values import ThreadedRunner

KEPT, ROWS = 32, 256
"""Most label sets whose embeddings are kept, and most labels of one that is."""
TESTED = 2
"""Stored inputs of each tower that `self_test` runs."""


@dataclass(frozen=True)
class TowerTest:
    """Outcome of a tower's self-test: its answers to `inputs` stored inputs against the checkpoint's.

    `relative`: largest relative deviation; of a classifier, the largest difference of a probability.
    """

    tower: TowerName
    passed: bool
    relative: float
    inputs: int


class _Queued:
    """A runner that one thread calls at a time."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self._lock, self.engine = runner, threading.Lock(), runner.engine

    def __call__(self, inputs: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        with self._lock:
            return self._runner(inputs)


class OpenBundle(LoadedBundle):
    """A bundle whose towers stay loaded until `close`. Every function that takes a bundle takes it.

    Many threads may use it at once. Towers whose runtime computes for one thread alone queue their callers.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle.path, bundle.manifest)
        self.__dict__.update(_runners={}, _prompts=OrderedDict(), _lock=threading.Lock(), _closed=False)

    _runners: dict[TowerName, Runner]
    _prompts: OrderedDict[tuple[str, ...], Floats]
    _lock: threading.Lock
    _closed: bool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Unloads the towers; the bundle cannot be used afterwards."""
        with self._lock:
            self._runners.clear()
            self._prompts.clear()
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
                runner = tower_runner(Bundle(self.path, self.manifest), tower)
                self._runners[tower] = runner.alone() if isinstance(runner, ThreadedRunner) else _Queued(runner)
            return self._runners[tower]

    def embed_images(self, images: ImageLike | Iterable[ImageLike]) -> Floats:
        """Embeds pictures: float32 [N, D], not normalised; of a classifier, probabilities [N, L].

        Args:
            images: files, files' contents (bytes), PIL images or arrays of bytes, or one of them.

        Raises:
            InvalidInput: a picture cannot be used.
        """
        return self.runner("image")(preprocess(images, self))

    def embed_texts(self, texts: str | Sequence[str]) -> Floats:
        """Embeds texts: float32 [N, D], not normalised.

        Raises:
            InvalidInput: no text, or something other than strings.
        """
        return self.runner("text")(tokenize(texts, self))

    def classify(
        self,
        images: ImageLike | Iterable[ImageLike],
        labels: str | Sequence[str] | None = None,
        template: str | None = None,
        *,
        top: int | None = None,
    ) -> tuple[dict[str, float], ...]:
        """Returns the probabilities of labels for each picture, the most probable label first: see `classify`.

        The embeddings of a label set are kept for the next call.

        Args:
            images: as for `embed_images`.
            labels, template, top: as for `classify`.

        Raises:
            InvalidInput: a picture cannot be used.
            UsageError: a tower is missing, there are fewer than two labels, or the template has no `{}`.
        """
        if (baked := self.manifest.classifier) is not None:
            if labels is not None or template is not None:
                raise UsageError(f"{self.path} is a classifier with fixed labels; leave `labels` and `template` out")
            names, rows = baked.labels, self.embed_images(images)
        elif labels is None:
            raise UsageError(f"{self.path} has no fixed labels; give labels with `labels=['cat', 'dog', 'car']`")
        else:
            names = given_labels(labels, template).names
            texts = self._label_embeddings(names, template or self.manifest.template)
            rows = self.manifest.scores.of(unit(self.embed_images(images)) @ texts.T)
        if not np.isfinite(rows).all():
            raise RuntimeFailed(f"{self.path}: its answers are not finite numbers; check it with `verify`")
        return tuple({names[index]: float(row[index]) for index in np.argsort(-row)[:top]} for row in rows)

    def tags(self, images: ImageLike | Iterable[ImageLike], labels: LabelHead) -> tuple[tuple[str, ...], ...]:
        """Returns the learned labels that are present in each picture, the most probable first.

        Raises:
            InvalidInput: a picture cannot be used.
            UsageError: the labels were learned in another embedding space.
        """
        if labels.embedding_space != self.manifest.embedding_space:
            raise UsageError(
                f"the labels were learned in the embedding space {labels.embedding_space}, and {self.path} has "
                f"{self.manifest.embedding_space}; learn them again"
            )
        return labels.tags(self.embed_images(images))

    def search(self, index: StrPath, texts: str | Sequence[str] = (), **choices: Any) -> Any:
        """Searches an index by texts or pictures with this bundle: see `search`, whose arguments it takes."""
        import mobileclip_deploy

        return mobileclip_deploy.search(index, texts, bundle=self, **choices)

    def self_test(self) -> tuple[TowerTest, ...]:
        """Compares each tower's answers to some of the stored inputs with the checkpoint's, by the bundle's gates.

        Raises:
            InvalidInput: the stored answers are damaged.
            NotRun, RuntimeFailed: nothing here can run a tower.
        """
        reference, manifest = Reference.read(self.golden), self.manifest
        floor = {} if self.measurements is None else self.measurements.floor
        tests = []
        for tower, entry in manifest.towers.items():
            inputs, expected = reference.inputs.of(tower)[:TESTED], reference.of(tower)[:TESTED]
            if manifest.classifier is not None and reference.probabilities is not None:
                expected = reference.probabilities[:TESTED]
            elif entry.output.normalised:
                expected = unit(expected)
            bound = manifest.gates.shipped(entry.precision, floor.get(tower), manifest.classifier is not None)
            check = Check.of_answers("shipped", tower, expected, self.runner(tower)(inputs), bound, "")
            figures = check.figures or {}
            relative = figures["largest_difference"] if check.deviation is None else check.deviation.relative
            tests.append(TowerTest(tower, check.status == "passed", relative, len(inputs)))
        return tuple(tests)

    def _label_embeddings(self, names: Sequence[str], template: str) -> Floats:
        key = (template, *names)
        with self._lock:
            if key in self._prompts:
                self._prompts.move_to_end(key)
                return self._prompts[key]
        texts = unit(self.embed_texts([template.replace("{}", name) for name in names]))
        if len(names) <= ROWS:
            with self._lock:
                self._prompts[key] = texts
                if len(self._prompts) > KEPT:
                    self._prompts.popitem(last=False)
        return texts


def open_bundle(path: Bundle | StrPath) -> OpenBundle:
    """Opens a bundle whose towers stay loaded: sizes and hashes are checked, and each tower is loaded on first use.

    Args:
        path: as returned by `export`, or its folder.

    Raises:
        InvalidInput: not a bundle, of another schema version, or changed since it was written.
    """
    return OpenBundle(Bundle.of(path))
