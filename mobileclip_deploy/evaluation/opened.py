"""`open_bundle`: a bundle whose towers stay loaded, for a service or a notebook."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from types import TracebackType
from typing import Any, Self

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.head import head_of, stored_answers
from mobileclip_deploy.artifacts.heads.label_head import LabelHead
from mobileclip_deploy.artifacts.heads.labels import given_labels
from mobileclip_deploy.base.files import StrPath
from mobileclip_deploy.base.files.arrays import Floats
from mobileclip_deploy.evaluation.classification import (
    check_top,
    classifier_of,
    learned_classifier,
    probability_rows,
    ranked,
)
from mobileclip_deploy.network.model.variants import TowerName
from mobileclip_deploy.parity import Check
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.pictures.embedder import LoadedBundle
from mobileclip_deploy.pictures.inputs import ImageLike, preprocess, tokenize

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


class OpenBundle(LoadedBundle):
    """A bundle whose towers stay loaded until `close`. Every function that takes a bundle takes it.

    Many threads may use it at once. Towers whose runtime computes for one thread alone queue their callers.
    """

    @cached_property
    def _small_classifier(self) -> Any:
        return lru_cache(KEPT)(partial(classifier_of, self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        super().close()
        self._small_classifier.cache_clear()

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
        check_top(top)
        label_set = None if labels is None else given_labels(labels, template)
        small = label_set is None or len(label_set.names) <= ROWS
        classifier = self._small_classifier if small else partial(classifier_of, self)
        names, _, shares, _ = classifier(label_set, template)
        rows = probability_rows(self.embed_images(images), shares, self.path.name)
        return tuple(ranked(names, row, top) for row in rows)

    def tags(self, images: ImageLike | Iterable[ImageLike], labels: LabelHead) -> tuple[tuple[str, ...], ...]:
        """Returns the learned labels that are present in each picture, the most probable first.

        Raises:
            InvalidInput: a picture cannot be used.
            UsageError: the labels were learned in another embedding space, or the bundle is a classifier.
        """
        learned_classifier(self, labels)
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
        reference, head, gates = Reference.read(self.golden), head_of(self), self.manifest.gates
        floor = {} if self.measurements is None else self.measurements.floor
        tests = []
        for tower, entry in self.manifest.towers.items():
            inputs = reference.inputs.of(tower)[:TESTED]
            expected = stored_answers(head, reference, tower)[:TESTED]
            bound = gates.shipped(entry.precision, floor.get(tower), bool(head.names))
            check = Check.of_answers("shipped", tower, expected, self.runner(tower)(inputs), bound, "")
            # Neither has a figure for outputs of another shape.
            relative = (check.figures or {}).get("largest_difference", math.inf)
            relative = relative if check.deviation is None else check.deviation.relative
            tests.append(TowerTest(tower, check.status == "passed", relative, len(inputs)))
        return tuple(tests)


def open_bundle(path: Bundle | StrPath) -> OpenBundle:
    """Opens a bundle whose towers stay loaded: sizes and hashes are checked, and each tower is loaded on first use.

    Args:
        path: as returned by `export`, or its folder.

    Raises:
        InvalidInput: not a bundle, of another schema version, or changed since it was written.
    """
    return OpenBundle(Bundle.of(path))
