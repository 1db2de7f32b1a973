"""Relevance data of a bundle: background pictures, and the cosine that a query needs for a match."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.manifest import AttachmentEntry, RelevanceAnswer, RelevanceEntry, RelevancePoint
from mobileclip_deploy.artifacts.bundle.opening import RELEVANCE
from mobileclip_deploy.base.files.arrays import Doubles, Floats
from mobileclip_deploy.base.files.names import within
from mobileclip_deploy.base.files.tensors import read_tensors, write_tensors
from mobileclip_deploy.base.progress import Progress, silent
from mobileclip_deploy.errors import REASON, InvalidInput, reraising
from mobileclip_deploy.network.model.architecture import MobileCLIP
from mobileclip_deploy.pictures.embedding import at_length_one
from mobileclip_deploy.spaces.int8 import integers_of, rounded_scale
from mobileclip_deploy.spaces.relevance_fit import FALSE_ALARMS, MatchThreshold, RelevanceSamples, fit, measured_curve
from mobileclip_deploy.spaces.relevance_set import RelevanceSet

GOLDEN_SIZE = 1000
"""Size of the library for which the golden prompts' `needed` is computed."""


@dataclass(frozen=True, eq=False)
class Relevance:
    """Background int8 [K, D], whose integers times `scale` are components, and the learned threshold."""

    background: npt.NDArray[np.int8]
    scale: float
    fitted: MatchThreshold

    @classmethod
    def of(cls, bundle: Bundle) -> Relevance | None:
        """Reads the relevance data of a bundle. None if it was exported without `background`.

        Raises:
            InvalidInput: the file is damaged, or does not match the manifest.
        """
        entry = bundle.manifest.relevance
        if entry is None:
            return None
        path = within(bundle.path, entry.file.file)
        refusal = f"{path} cannot be read ({REASON}); export the bundle again"
        tensors, _ = read_tensors(path, refusal)
        with reraising(refusal, KeyError):
            background, weights = tensors["background"], tensors["weights"]
        dimension = bundle.manifest.embed_dim
        fits = background.shape == (entry.images, dimension) and background.dtype == np.int8
        if not (fits and weights.shape == (dimension,) and weights.dtype == np.float32 and np.isfinite(weights).all()):
            raise InvalidInput(f"{path} does not match the manifest; export the bundle again")
        fitted = MatchThreshold(weights.astype(np.float64), entry.spread, entry.intercept, entry.slope)
        return cls(background, entry.scale, fitted)

    @property
    def pictures(self) -> Doubles:
        """Embeddings [K, D] of the background, nearly of length 1."""
        return self.background.astype(np.float64) * self.scale

    def needed(self, texts: Floats, size: int) -> Doubles:
        """Returns the cosine [Q] that a match of each text needs in a library of `size` pictures.

        Args:
            texts: embeddings [Q, D], of any length.
        """
        unit = at_length_one(texts)
        return self._needed(unit, (unit @ self.pictures.T).std(1), size)

    def _needed(self, asked: Doubles, spreads: Doubles, size: int) -> Doubles:
        return self.fitted.threshold(size) - self.fitted.lifted(asked, spreads)

    def answers(self, texts: Floats) -> tuple[RelevanceAnswer, ...]:
        """Returns the values that a client should compute for these texts [Q, D]."""
        unit = at_length_one(texts)
        scores = unit @ self.pictures.T
        spreads = scores.std(1)
        rows = zip(scores.mean(1), spreads, self._needed(unit, spreads, GOLDEN_SIZE), strict=True)
        return tuple(RelevanceAnswer(mean=_six(mean), spread=_six(std), needed=_six(need)) for mean, std, need in rows)


@dataclass(frozen=True, eq=False)
class LearnedRelevance:
    """Relevance that an export writes into its bundles, the set it was learned from, and its measured effect."""

    relevance: Relevance
    learned_from: RelevanceSet
    curve: tuple[RelevancePoint, ...]

    def write(self, folder: Path, golden: Floats) -> RelevanceEntry:
        """Writes the file into a bundle's folder, and returns the manifest's entry.

        Args:
            golden: embeddings [M, D] of the golden prompts.
        """
        relevance, source, path = self.relevance, self.learned_from, folder / RELEVANCE
        weights = relevance.fitted.weights.astype(np.float32)
        write_tensors(path, {"background": relevance.background, "weights": weights}, {})
        return RelevanceEntry(
            file=AttachmentEntry.of(path, folder),
            background=source.name,
            images=len(relevance.background),
            images_sha256=source.sha256,
            scale=relevance.scale,
            queries=len(source.captions) or None,
            queries_sha256=source.queries_sha256,
            spread=relevance.fitted.spread,
            intercept=relevance.fitted.intercept,
            slope=relevance.fitted.slope,
            false_alarms=FALSE_ALARMS,
            curve=self.curve,
            golden=relevance.answers(golden),
        )


def learn_relevance(model: MobileCLIP, given: RelevanceSet, progress: Progress = silent) -> LearnedRelevance:
    """Embeds pictures and captions in float64, so that every machine learns the same, and fits the threshold.

    Raises:
        InvalidInput: a picture cannot be used, embeddings hardly differ, or captions do not fit their pictures.
    """
    embedded = given.embedded(model, progress)
    scale = rounded_scale(float(np.abs(embedded.background).max()))  # nothing is clipped
    background, _ = integers_of(embedded.background.astype(np.float32), scale)
    stored = RelevanceSamples(
        embedded.texts, embedded.pictures, embedded.nonsense, background.astype(np.float64) * scale
    )
    fitted = fit(stored)
    weights = np.round(fitted.weights, 5).astype(np.float32).astype(np.float64)
    rounded = MatchThreshold(weights, _six(fitted.spread), _six(fitted.intercept), _six(fitted.slope))
    return LearnedRelevance(Relevance(background, scale, rounded), given, measured_curve(stored))


def _six(value: float) -> float:
    return round(float(value), 6)
